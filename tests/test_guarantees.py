"""The page of guarantees names tests and scenarios that exist."""

import re
from pathlib import Path

from tests.lab.scenarios import SITUATIONS
from tests.lab.stories import STORIES

TESTS = Path(__file__).parent
PAGE = (TESTS / "GUARANTEES.md").read_text()


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", PAGE)
    assert len(named) > 30
    assert [name for name in named if not (TESTS / name).exists()] == []


def test_every_scenario_that_is_named_exists_and_they_are_counted_right() -> None:
    rows = [line for line in PAGE.splitlines() if "packets:" in line]
    quoted = {q for line in rows for q in re.findall(r'"([^"]+)"', line.partition("packets:")[2])}
    assert quoted - {"TTL 1"} <= set(SITUATIONS) | set(STORIES)
    assert f"({len(SITUATIONS)} situations" in PAGE
    assert f"({len(STORIES)} stories)" in PAGE
