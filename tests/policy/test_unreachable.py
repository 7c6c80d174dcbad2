"""Rules that can never decide: those that are found never do, and the plain cases are found."""

import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress_policy.model.decision import Target
from egress_policy.model.network import parse_client_network
from egress_policy.model.rule import Policy, Rule
from egress_policy.policy.engine import decide
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.policy.unreachable import unreachable
from tests.helpers.filters import VERDICTS, compile_word

HOSTS = ("*", "*.test", "*.a.test", "a.test", "b.a.test", "192.0.2.1", "2001:db8::1")
CLIENTS = (
    *("0.0.0.0/0", "192.0.2.0/24", "192.0.2.7"),
    *("::/0", "2001:db8::/32", "::ffff:192.0.2.0/121"),
)
TARGETS = [
    Target(host, port, client)
    for host, client, port in product(
        ("test", "a.test", "b.a.test", "c.b.a.test", "other", "192.0.2.1", "2001:db8::1"),
        ("192.0.2.7", "192.0.2.200", "198.51.100.1", "2001:db8::1", "::1", ""),
        (80, 443),
    )
]


def some[T](values: tuple[T, ...]) -> st.SearchStrategy[list[T]]:
    return st.lists(st.sampled_from(values), max_size=2)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    stated = {
        "hosts": draw(some(HOSTS)),
        "clients": draw(some(CLIENTS)),
        "ports": draw(some((80, 443))),
        "filter": draw(st.sampled_from(("", "", *VERDICTS))),
    }
    return Rule.model_validate({"use": "direct"} | {key: v for key, v in stated.items() if v})


def found(*given_: dict[str, object]) -> dict[int, tuple[int, ...]]:
    return unreachable([Rule.model_validate({"use": "direct", **one}) for one in given_])


@settings(max_examples=80)
@given(st.lists(rules(), max_size=6))
def test_what_is_out_of_reach_decides_for_no_target(made: list[Rule]) -> None:
    lost = unreachable(made)
    snapshot = build_snapshot(Policy(rules=tuple(made)), compile_word)
    labels = [*(one.label for one in snapshot.rules), "default"]
    decided = {decide(snapshot, target).rule for target in TARGETS}
    assert decided.isdisjoint(labels[number] for number in lost)
    for number, before in lost.items():
        assert before
        assert all(one < number for one in before)


@given(st.lists(rules(), max_size=5), rules())
def test_a_rule_behind_its_twin_is_found(made: list[Rule], twin: Rule) -> None:
    assert len(made) + 1 in unreachable([*made, twin, twin])


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({}, {"hosts": ["a.test"], "ports": [80], "filter": "yes"}),
        ({"hosts": ["*.test"]}, {"hosts": ["b.a.test", "*.a.test"]}),
        ({"hosts": ["*"]}, {"hosts": ["2001:db8::1"]}),
        ({"clients": ["10.0.0.0/8"]}, {"clients": ["10.1.2.3", "10.64.0.0/10"], "ports": [1]}),
        ({"ports": [80, 443]}, {"ports": [443]}),
        ({"filter": "yes"}, {"filter": "yes", "hosts": ["a.test"]}),
    ],
)
def test_a_wider_rule_takes_all(earlier: dict[str, object], later: dict[str, object]) -> None:
    assert found(earlier, later)[1] == (0,)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"hosts": ["*.test"]}, {"hosts": ["test"]}),
        ({"hosts": ["*.test"]}, {"hosts": ["*"]}),
        ({"hosts": ["a.test"]}, {"hosts": ["*.a.test"]}),
        ({"hosts": ["a.test"]}, {"hosts": ["a.test", "b.test"]}),
        ({"clients": ["0.0.0.0/0"]}, {}),
        ({"clients": ["0.0.0.0/0"]}, {"clients": ["::/0"]}),
        ({"clients": ["10.1.0.0/16"]}, {"clients": ["10.0.0.0/8"]}),
        ({"ports": [80]}, {"ports": [80, 443]}),
        ({"filter": "yes"}, {"filter": "later"}),
        ({"filter": "yes"}, {}),
    ],
)
def test_a_narrower_or_other_rule_does_not(
    earlier: dict[str, object], later: dict[str, object]
) -> None:
    assert 1 not in found(earlier, later)


def test_several_rules_may_do_it_together() -> None:
    one: dict[str, object]
    two: dict[str, object]
    one, two = {"hosts": ["a.test"], "ports": [80, 443]}, {"hosts": ["*.b.test"]}
    assert found(one, {"ports": [1]}, two, {"hosts": ["a.test", "c.b.test"], "ports": [80]}) == {
        3: (0, 2)
    }


def test_the_default_is_out_of_reach_behind_a_rule_for_everything() -> None:
    assert found({"hosts": ["a.test"]}, {}) == {2: (1,)}
    assert found({"filter": "yes"}) == {}


def test_a_rule_with_a_flood_of_cells_is_left_alone() -> None:
    many: dict[str, object] = {
        "hosts": [f"h{number}.test" for number in range(200)],
        "clients": [str(parse_client_network(f"192.0.2.{number}")) for number in range(200)],
    }
    assert found(many, many) == {}
    assert found({}, many) == {1: (0,), 2: (0,)}


def test_thousands_of_rules_take_no_second() -> None:
    made = [Rule(use="direct", hosts=(f"h{number % 9000}.a.b.test",)) for number in range(10_000)]
    began = time.perf_counter()
    assert len(unreachable(made)) == 1000
    assert time.perf_counter() - began < 1
