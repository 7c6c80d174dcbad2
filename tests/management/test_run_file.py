"""Where a running mitmproxy listens: readable by its owner alone, and only as long as it runs."""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egress_policy.management import run_file
from egress_policy.management.run_file import RunFile, read_runs

URL = "http://127.0.0.1:20128/"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[RunFile]:
    file = RunFile()
    file.write(tmp_path, URL, tmp_path / "egress-token")
    yield file
    file.remove()


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_it_is_there_with_mode_0600_while_mitmproxy_runs(tmp_path: Path) -> None:
    file = RunFile()
    assert read_runs(tmp_path) == ([], [])
    for url in (URL, "http://[::1]:1/"):
        file.write(tmp_path, url, tmp_path / "egress-token")
        assert stat.S_IMODE(only(tmp_path).stat().st_mode) == 0o600
        (run,), faults = read_runs(tmp_path)
        assert (run.url, run.pid) == (url, os.getpid())
        assert run.token_file == tmp_path / "egress-token"
        assert faults == []
    assert run.address == ("::1", 1)
    file.write(tmp_path, "", None)
    assert [(run.url, run.token_file) for run in read_runs(tmp_path)[0]] == [("", None)]
    file.write(tmp_path / "other", URL, None)
    assert read_runs(tmp_path)[0] == []
    file.remove()
    file.remove()
    assert [*tmp_path.rglob("*.json")] == []


def test_each_of_several_has_one_and_the_last_comes_first(tmp_path: Path, written: RunFile) -> None:
    last = RunFile()
    last.write(tmp_path, "http://127.0.0.1:2/", tmp_path / "egress-token")
    os.utime(max(tmp_path.iterdir(), key=lambda path: "27.0.0.1:2/" in path.read_text()))
    assert [run.url for run in read_runs(tmp_path)[0]] == ["http://127.0.0.1:2/", URL]
    last.remove()
    assert [run.url for run in read_runs(tmp_path)[0]] == [URL]


def test_run_file_of_an_ended_process_counts_for_nothing_and_goes_at_the_next_start(
    tmp_path: Path, written: RunFile
) -> None:
    left = tmp_path / "egress-run-00000000.json"
    left.write_text(only(tmp_path).read_text())
    left.chmod(0o600)
    assert len(read_runs(tmp_path)[0]) == 1
    written.write(tmp_path, URL, tmp_path / "egress-token")
    assert not left.exists()


def test_one_that_others_could_have_written_is_not_believed(
    tmp_path: Path, written: RunFile
) -> None:
    path = only(tmp_path)
    path.chmod(0o644)
    runs, (fault,) = read_runs(tmp_path)
    assert runs == []
    assert "0600" in str(fault)
    path.rename(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    runs, (fault,) = read_runs(tmp_path)
    assert runs == []
    assert "symbolic link" in str(fault)


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
    path = tmp_path / "egress-run-1.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    path.chmod(0o600)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        runs, faults = read_runs(tmp_path)
    assert len(runs) + len(faults) == 1
    assert all(run.url in ("", URL) for run in runs)


def test_fifo_of_that_name_does_not_block(tmp_path: Path, written: RunFile) -> None:
    os.mkfifo(tmp_path / "egress-run-fifo.json")
    written.write(tmp_path, URL, tmp_path / "egress-token")
    assert [run.url for run in read_runs(tmp_path)[0]] == [URL]


def test_one_that_cannot_be_replaced_says_nothing_any_more(
    tmp_path: Path, written: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space"):
        written.write(tmp_path, "http://127.0.0.1:2/", None)
    assert list(tmp_path.iterdir()) == []


def test_run_file_of_another_network_is_not_trusted(
    tmp_path: Path, written: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may listen at that loopback address here, and would get the token."""
    monkeypatch.setattr(run_file, "_network", lambda: "another/1")
    runs, (fault,) = read_runs(tmp_path)
    assert runs == []
    assert "in a container" in str(fault)
