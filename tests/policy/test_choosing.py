"""Choosing: what a target may take by the policy in force, and which member of a pool."""

import random
from typing import Any

import pytest

from egress_policy.errors import Reason
from egress_policy.model.decision import Egress, Pin, Route
from egress_policy.policy.choosing import Chooser
from egress_policy.policy.listeners import Listeners
from tests.helpers.routing import MODE, snapshot_of, to


def chooser(*rules: dict[str, Any], **policy: Any) -> Chooser:
    listeners = Listeners(lambda _: False)
    return Chooser(snapshot_of(*rules, **policy), listeners, lambda: 0.0, random.Random(1))


def test_chooses_what_the_rule_names() -> None:
    subject = chooser({"hosts": ["origin.test"], "use": "exit"}, {"name": "rest", "use": "direct"})
    chosen, rest = subject.choose(to()), subject.choose(to("else.test"))
    assert chosen.egress
    assert (chosen.egress.name, chosen.rule, chosen.unmatched) == ("exit", "#1", False)
    assert rest.egress
    assert (rest.egress.name, rest.rule) == ("direct", "rest")


def test_chooses_the_default_where_no_rule_matches() -> None:
    direct = chooser().choose(to())
    assert direct.egress == Egress(None)
    assert (direct.rule, direct.unmatched) == ("default", True)
    refusal = chooser(default="refuse").choose(to()).refusal
    assert refusal
    assert refusal.reason is Reason.DEFAULT


def test_a_refusal_is_a_choice() -> None:
    choice = chooser({"use": "refuse"}).choose(to())
    assert choice.refusal
    assert choice.refusal.reason is Reason.RULE
    assert not choice.is_open


def test_a_choice_that_needs_the_request_stays_open_and_is_no_way_out() -> None:
    choice = chooser({"filter": "~m POST", "use": "exit"}).choose(to())
    assert choice.is_open
    assert (choice.egress, choice.refusal) == (None, None)


def test_a_pool_turns_and_keeps_what_is_taken() -> None:
    pools = [{"name": "homes", "members": ["exit", "other"]}]
    subject = chooser({"use": "homes"}, pools=pools)
    first, second, third = (subject.choose(to()) for _ in range(3))
    assert first.egress
    assert second.egress
    assert [first.egress.name, second.egress.name] == ["exit", "other"]
    assert third.egress == first.egress
    assert first.pool == "homes"
    kept = subject.choose(to(), taken=first.egress.key)
    assert kept.egress == first.egress
    assert subject.choose(to(), taken="an edited one").egress == second.egress


def test_the_upstream_of_the_mode_stands_for_direct_where_no_rule_matches() -> None:
    subject = chooser({"hosts": ["origin.test"], "use": "direct"})
    ruled, unmatched = (subject.choose(to(h), unmatched=MODE) for h in ("origin.test", "else.test"))
    assert ruled.egress == Egress(None)
    assert unmatched.egress == Egress(MODE)
    refuse = chooser(default="refuse").choose(to(), unmatched=MODE)
    assert refuse.refusal


@pytest.mark.parametrize("rules", [[], [{"use": "exit"}]], ids=["mode", "rule"])
def test_udp_does_not_leave_by_a_proxy(rules: list[dict[str, Any]]) -> None:
    refusal = chooser(*rules).choose(to(transport="udp"), unmatched=MODE).refusal
    assert refusal
    assert refusal.reason is Reason.UDP_OVER_PROXY


TO_EXIT = {"hosts": ["origin.test"], "use": "exit"}


OF_ANOTHER = {"hosts": ["other.test"], "use": "exit"}


POOL = {"name": "pool", "members": ["exit", "other"]}


@pytest.mark.parametrize(
    ("rules", "policy", "current"),
    [
        pytest.param([TO_EXIT], {}, True, id="the same"),
        pytest.param([OF_ANOTHER, {"use": "exit"}], {}, True, id="by another rule"),
        pytest.param([{"use": "pool"}], {"pools": [POOL]}, True, id="one of a pool"),
        pytest.param([OF_ANOTHER, {"use": "other"}], {}, False, id="another exit"),
        pytest.param([OF_ANOTHER, {"use": "refuse"}], {}, False, id="refused"),
        pytest.param([OF_ANOTHER], {}, False, id="direct by default"),
        pytest.param(
            [TO_EXIT | {"target_family": "ipv6"}, OF_ANOTHER], {}, False, id="another family"
        ),
        pytest.param([{"filter": "~m GET", "use": "exit"}, TO_EXIT], {}, False, id="open"),
    ],
)
def test_a_route_is_current_while_its_target_would_get_the_same_egress(
    rules: list[dict[str, Any]], policy: dict[str, Any], current: bool
) -> None:
    subject = chooser(TO_EXIT)
    found = Route(subject.choose(to()), Pin(("192.0.2.1",), 4), ("origin.test", 443))
    after = chooser(*rules, **policy)
    subject.snapshot = after.snapshot
    assert subject.is_current(found) == after.is_current(found) == current
    has_exit = found.egress.key in after.snapshot.egress_keys
    found.choice.purpose.target = None
    assert subject.is_current(found) == has_exit  # what it carries is judged one by one
