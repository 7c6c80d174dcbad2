from hypothesis import example, given, settings
from hypothesis import strategies as st
from mitmproxy.test import tflow

from egress_policy.model.decision import Target
from egress_policy.proxy.filters import compile_filter
from egress_policy.registry.scopes import scope_condition

texts = st.text(st.characters(exclude_categories=["Cc"]), min_size=1, max_size=8) | st.text(
    "ab\\'\"()tnr.^$[]{}*+?|~&! ", min_size=1
)


def matches(user: str, authenticated: str | None) -> bool | None:
    """Whether the rule of ``user`` matches the flow of another."""
    flow = tflow.tflow()
    if authenticated is not None:
        flow.metadata["proxyauth"] = (authenticated, "password")
    compiled = compile_filter(scope_condition("user", user)["filter"])
    return compiled(Target("a.example", 443, flow=flow))


@settings(max_examples=40)
@given(texts, texts)
@example("alice", "Alice")
@example("a", "a', 'b")
def test_user_is_matched_exactly(user: str, other: str) -> None:
    assert matches(user, user)
    assert matches(user, other) == (user == other)


def test_user_needs_the_request_and_to_be_let_in() -> None:
    assert not matches("alice", None)
    assert compile_filter(scope_condition("user", "alice")["filter"]).needs_request
