from pathlib import Path

import pytest

from tests.helpers.shell import Capture, Shell


@pytest.fixture
def shell(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("EGRESS_KEY", "a key for tests, long enough")
    return Shell(tmp_path, capsys)
