"""The policy file: taken whole, or the last good content stays."""

import json
import logging
import threading
from pathlib import Path

import pytest

from egress_policy.collector import Collector
from egress_policy.errors import PolicyFileError
from egress_policy.management import file_source
from egress_policy.management.file_source import LONG_MOMENT, FileContent, FileSource
from egress_policy.policy_file.parse import MOMENT, read_policy
from tests.helpers.filters import compile_word
from tests.helpers.scene import still

STATED = {
    "version": 1,
    "proxies": [{"name": "exit", "host": "proxy.test", "password": "s3cret"}],
    "rules": [{"hosts": ["*.test"], "use": "exit"}, {"hosts": ["ads.test"], "use": "refuse"}],
    "default": "refuse",
}
BLOCK = """\
version: 1
proxies:
  - name: exit
    host: proxy.test
    password: "s3cret"
rules:
  - {hosts: ["*.test"], use: exit}
  - hosts: [ads.test]
    use: refuse
default: refuse
"""


async def put_in_force(source: FileSource, content: FileContent) -> None:
    source.take(content)


def at(path: Path | None) -> FileSource:
    return FileSource(path, compile_word, put_in_force, Collector())


def source(path: Path, text: str) -> FileSource:
    path.write_text(text)
    made = at(still(path))
    made.open()
    return made


def test_no_file_is_an_empty_policy() -> None:
    made = at(None)
    made.open()
    assert made.policy
    assert not made.policy.rules


@pytest.mark.parametrize("text", [BLOCK, json.dumps(STATED), json.dumps(STATED, indent=1) + "\n"])
def test_truncated_content_is_not_taken_where_its_end_is_known(tmp_path: Path, text: str) -> None:
    """A block can be cut off behind a line, and looks whole then: only time tells."""
    path = tmp_path / "policy.yaml"
    made = source(path, text)
    for end in range(len(text)):
        path.write_text(text[:end])
        still(path)
        if text[:end] == text.rstrip() and text != BLOCK:
            continue  # nothing is missing
        if text == BLOCK and text[:end].endswith("\n"):
            continue
        with pytest.raises(PolicyFileError) as caught:
            made.read()
        assert not caught.value.unread
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("end", [BLOCK.index(word) for word in ("rules:", "default:")])
def test_version_that_lacks_a_part_is_read_again_when_it_has_stood_still_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: int
) -> None:
    """Cut off behind a line that might be the last one."""
    made = source(tmp_path / "policy.yaml", BLOCK)
    texts = {MOMENT: BLOCK[:end], LONG_MOMENT: BLOCK}

    def read(path: Path, moment: float = MOMENT) -> str:
        assert path == made.path
        return texts.pop(moment)

    monkeypatch.setattr(file_source, "read_policy", read)
    assert made.read().policy == made.policy
    assert texts == {}


def test_version_that_lacks_nothing_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = source(tmp_path / "policy.yaml", BLOCK)
    texts = [BLOCK.replace("ads", "adverts")]
    monkeypatch.setattr(file_source, "read_policy", lambda *_: texts.pop())
    assert made.read().policy != made.policy


def test_missing_end_says_what_to_do(tmp_path: Path) -> None:
    made = source(tmp_path / "policy.yaml", BLOCK)
    (tmp_path / "policy.yaml").write_text(BLOCK.removesuffix("\n"))
    with pytest.raises(PolicyFileError, match=r"policy\.yaml:10: file: .*with a newline"):
        made.read()


def test_file_that_never_ended_in_a_newline_need_not(tmp_path: Path) -> None:
    made = source(tmp_path / "policy.yaml", "version: 1")
    (tmp_path / "policy.yaml").write_text("version: 1\ndefault: refuse")
    assert made.read().policy.default == "refuse"


def test_reading_alone_changes_no_policy(tmp_path: Path) -> None:
    made = source(tmp_path / "policy.yaml", BLOCK)
    before = made.policy
    (tmp_path / "policy.yaml").write_text("version: 1\ndefault: direct\n")
    still(tmp_path / "policy.yaml")
    content = made.read()
    assert made.policy is before
    made.take(content)
    assert made.policy is content.policy


def test_rejected_edit_is_logged_each_time_and_a_repeated_attempt_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = source(tmp_path / "policy.yaml", BLOCK)
    with caplog.at_level(logging.WARNING):
        for again in (False, False, True, True, True):
            made.reject("unknown key" if not again else "too many files", again=again)
    assert len(caplog.records) == 3
    assert all("the last good one stays in force" in one.getMessage() for one in caplog.records)
    assert "it is tried again" in caplog.text


async def test_first_version_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.mkdir()
    made = at(path)
    with pytest.raises(PolicyFileError, match="cannot be read: Is a directory") as caught:
        made.open()
    assert caught.value.unread
    path.rmdir()
    path.write_text("version: 1\n")
    assert made.watcher
    await made.watcher.poll()
    await made.watcher.poll()
    assert made.policy
    assert made.error == ""


async def test_file_that_does_not_answer_is_left_alone_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, go_on = source(tmp_path / "policy.yaml", BLOCK), threading.Event()
    before, read = made.policy, read_policy

    def hang(path: Path) -> str:
        assert go_on.wait(20)
        return read(path)

    monkeypatch.setattr(file_source, "read_policy", hang)
    monkeypatch.setattr(file_source, "PATIENCE", 0.05)
    assert not await made.reload()
    assert "does not answer" in made.error
    assert "the last good one stays in force; it is tried again" in caplog.text
    assert made.policy is before
    monkeypatch.setattr(file_source, "read_policy", read)
    go_on.set()
    assert await made.reload()
    assert made.error == ""


async def test_attempts_at_a_file_that_stays_unreadable_become_rarer(tmp_path: Path) -> None:
    made, attempts = source(tmp_path / "policy.yaml", BLOCK), []
    read = made.read
    made.read = lambda: (attempts.append(1), read())[1]  # type: ignore[method-assign, func-returns-value]
    made.path = tmp_path
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    assert made.watcher
    for _ in range(60):
        await made.watcher.poll()
    assert 3 < len(attempts) < 9
