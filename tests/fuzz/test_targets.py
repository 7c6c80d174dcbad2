"""The targets of the fuzzer on their corpus, near it, and on arbitrary bytes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
FILES = sorted(CORPUS.glob("*/*"))
_Edit = tuple[int, int, bytes]
edits = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4
)


def edited(data: bytes, changes: list[_Edit]) -> bytes:
    """The input with some bytes replaced."""
    for at, removed, put in changes:
        at %= len(data) + 1
        data = data[:at] + put + data[at + removed :]
    return data


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
@given(changes=edits)
@settings(max_examples=30, deadline=None)
def test_input_near_the_corpus_is_accepted_or_rejected(path: Path, changes: list[_Edit]) -> None:
    data = path.read_bytes()
    TARGETS[path.parent.name](data)
    TARGETS[path.parent.name](edited(data, changes))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_taken_or_declined(name: str, data: bytes) -> None:
    TARGETS[name](data)
