"""The conformance data and small inputs: a shared copy beside the checkout if there is one,
otherwise the copy in the repository."""

import json
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_SHARED = _TESTS.parents[1] / "shared"


def load(name: str) -> list[dict[str, Any]]:
    """The vectors of one file, ``name`` with or without ``.json``."""
    folder = _first(_SHARED / "conformance", _TESTS / "data")
    vectors: list[dict[str, Any]] = json.loads(
        (folder / f"{name.removesuffix('.json')}.json").read_text("utf-8")
    )
    return vectors


def resolv_confs() -> list[Path]:
    """Files like /etc/resolv.conf on real machines; 127.0.0.1 stands for a nameserver of the
    test."""
    return sorted(_first(_SHARED / "cases" / "resolv", _TESTS / "data" / "resolv").glob("*.conf"))


def _first(*folders: Path) -> Path:
    return next(folder for folder in folders if folder.is_dir())


def load_list(name: str) -> str:
    """A proxy list that once failed somewhere, ``name`` without ``.txt``."""
    folder = _first(_SHARED / "cases" / "lists", _TESTS / "data" / "lists")
    return (folder / f"{name}.txt").read_text("utf-8")
