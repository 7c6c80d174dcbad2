from pathlib import Path

import pytest

from tests.helpers.shell import Capture, Shell


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's configuration and key out of the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EGRESS_KEY", raising=False)


@pytest.fixture
def shell(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("EGRESS_KEY", "a key for tests, long enough")
    return Shell(tmp_path, capsys)
