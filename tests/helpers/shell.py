"""Commands of the command line, run in this process on their own registry."""

import json
from pathlib import Path
from typing import Any

import pytest

from egress_policy.cli import main

Capture = pytest.CaptureFixture[str]
SECRET = "hush-hush-7"


class Shell:
    """``folder`` is the confdir, ``err`` the standard error of the last command."""

    def __init__(self, folder: Path, capture: Capture) -> None:
        self.folder, self._capture = folder, capture
        self.err = ""

    def __call__(self, *arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--confdir", str(self.folder)]) == status
        out, self.err = self._capture.readouterr()
        return out

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))
