"""The conformance data: the shared copy beside the checkout if there is one, else our own."""

import json
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_SHARED = _TESTS.parents[1] / "shared" / "conformance"


def load(name: str) -> list[dict[str, Any]]:
    """The vectors of one file, ``name`` with or without ``.json``."""
    folder = _SHARED if _SHARED.is_dir() else _TESTS / "data"
    vectors: list[dict[str, Any]] = json.loads(
        (folder / f"{name.removesuffix('.json')}.json").read_text("utf-8")
    )
    return vectors
