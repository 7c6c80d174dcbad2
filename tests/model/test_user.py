"""The user of a flow: only what ``proxyauth`` writes, as it writes it or as it was saved."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry
from egress_policy.model.user import parse_user_filter, user_filter, user_in


@pytest.mark.parametrize("noted", [("alice", "pw"), ["alice", "pw"], ("alice", "")])
def test_user_is_the_first_of_the_pair(noted: Any) -> None:
    assert user_in({"proxyauth": noted}) == "alice"


@pytest.mark.parametrize(
    "noted",
    [
        *(None, "alice", b"alice", {"alice": "pw"}, [], ["alice"], ["alice", "pw", "x"]),
        *(["alice", None], [1, "pw"], [["alice"], "pw"], ["alice\n", "pw"], ["alice", "p\x00w"]),
        *(["ali\x9bce", "pw"], [b"alice", b"pw"]),
    ],
)
def test_anything_else_is_no_user(noted: Any) -> None:
    assert user_in({"proxyauth": noted}) is None
    assert user_in({}) is None


@given(st.text())
def test_filter_of_a_user_is_read_back(user: str) -> None:
    assert parse_user_filter(user_filter(user)) == user


@given(st.text() | st.text('~user "\\ a'))
def test_other_expressions_are_left_alone(text: str) -> None:
    with contextlib.suppress(InvalidEntry):
        assert parse_user_filter(text) is None or text.strip().startswith("~user")


def test_a_name_that_is_not_json_text_is_an_error() -> None:
    with pytest.raises(InvalidEntry, match="in quotes") as raised:
        parse_user_filter('~user "a" b"')
    assert raised.value.field == "filter"
