"""Where a running mitmproxy listens: for its owner alone, and only as long as it runs."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress_policy.files.run_file import NAME, Run, RunFile, read_run
from egress_policy.files.secret_file import SecretFileError

URL = "http://127.0.0.1:20128/"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[RunFile]:
    file = RunFile()
    file.write(tmp_path, URL, tmp_path / "egress-token")
    yield file
    file.remove()


def said(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / NAME).read_text())
    return found


def test_it_is_there_with_mode_0600_while_somebody_listens(tmp_path: Path) -> None:
    file = RunFile()
    assert read_run(tmp_path) is None
    for url in (URL, "http://[::1]:1/"):
        file.write(tmp_path, url, tmp_path / "egress-token")
        assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
        run = read_run(tmp_path)
        assert run == Run(url=url, pid=os.getpid(), token_file=tmp_path / "egress-token")
    assert run
    assert run.address == ("::1", 1)
    file.remove()
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_last_of_several_is_named_and_is_not_removed_by_another(
    tmp_path: Path, written: RunFile
) -> None:
    last = RunFile()
    last.write(tmp_path, "http://127.0.0.1:2/", tmp_path / "egress-token")
    written.remove()
    run = read_run(tmp_path)
    assert run
    assert run.url == "http://127.0.0.1:2/"
    last.remove()
    assert read_run(tmp_path) is None


def test_one_that_nobody_holds_any_more_or_whose_process_is_gone_is_stale(
    tmp_path: Path, written: RunFile
) -> None:
    path, text = tmp_path / NAME, (tmp_path / NAME).read_text()
    path.write_text(json.dumps({**said(tmp_path), "pid": 2**31 - 1}))  # more than Linux has
    with pytest.raises(SecretFileError, match="has ended"):
        read_run(tmp_path)
    path.unlink()
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SecretFileError, match="has ended"):
        read_run(tmp_path)


def test_one_that_others_could_have_written_is_not_believed(
    tmp_path: Path, written: RunFile
) -> None:
    (tmp_path / NAME).chmod(0o644)
    with pytest.raises(SecretFileError, match="0600"):
        read_run(tmp_path)
    (tmp_path / NAME).rename(tmp_path / "real")
    (tmp_path / NAME).symlink_to(tmp_path / "real")
    with pytest.raises(SecretFileError, match="symbolic link"):
        read_run(tmp_path)


URLS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "https://127.0.0.1:1/",
            "http://host.test:1/",
            "http://u@127.0.0.1:1/",
            "http://127.0.0.1/",
        ]
    ),
    st.sampled_from(["http://127.0.0.1:99999/", "http://[::1:1/", "http://:1/", URL]),
)
JSON = st.fixed_dictionaries({"url": URLS, "pid": st.integers(), "token_file": st.text(max_size=9)})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.one_of(JSON.map(json.dumps), st.text(max_size=40)))
def test_whatever_stands_in_it_is_an_address_or_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / NAME
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    path.chmod(0o600)
    with pytest.raises(SecretFileError):  # nobody holds it
        read_run(tmp_path)
    try:
        run = Run.model_validate_json(text)
    except ValueError:
        return
    assert run.url == URL
