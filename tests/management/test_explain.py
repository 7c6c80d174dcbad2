"""Explaining a request: which rule decides, what would be dialled, and what cannot be asked."""

from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry, Reason
from egress_policy.management.explain import ExplainQuery, Explanation, explain, target_of
from egress_policy.model.decision import Refusal
from egress_policy.model.rule import Policy
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.proxy.filters import compile_filter, request_for
from tests.helpers.management import managed
from tests.management.test_members import NAMES, fail, policy

PROXIES = [
    {"name": "v6", "type": "socks5", "host": "exit.test", "family": "ipv6", "password": "s3cret"},
    {"name": "dc", "host": "192.0.2.50", "target_family": "ipv4"},
]
PROXIES[0]["username"] = "u"


def explained(
    *rules: dict[str, Any], url: str = "https://origin.test/", query: Any = None, **policy: Any
) -> Explanation:
    stated = {"proxies": PROXIES, "rules": list(rules), **policy}
    snapshot = build_snapshot(Policy.model_validate(stated), compile_filter)
    return explain(snapshot, ExplainQuery(url=url, **(query or {})), request_for)


def test_explanation_has_the_rule_and_what_would_be_dialled() -> None:
    found = explained({"hosts": ["other.test"], "use": "refuse"}, {"name": "all", "use": "v6"})
    assert (found.outcome, found.rule, found.code) == ("egress", "all", "")
    assert [one.model_dump() for one in found.egresses] == [
        {
            "name": "v6",
            "type": "socks5",
            "host": "exit.test",
            "port": 1080,
            "family": "ipv6",
            "target_family": None,
            "now": None,
        }
    ]
    assert [(one.rule, one.verdict) for one in found.rules] == [
        ("#1", "not matched"),
        ("all", "matched"),
        ("default", "not reached"),
    ]
    assert "s3cret" not in found.model_dump_json()


def test_pool_shows_all_that_may_be_picked() -> None:
    pools = [{"name": "both", "members": ["v6", "dc"]}]
    found = explained({"use": "both"}, pools=pools)
    assert (found.pool, [one.name for one in found.egresses]) == ("both", ["v6", "dc"])


def test_a_pool_lists_fifty_and_says_that_nothing_is_picked() -> None:
    names = [f"p{number}" for number in range(60)]
    many = [{"name": name, "host": "192.0.2.1"} for name in names]
    many[0]["status"] = "inactive"
    pools = [{"name": "many", "members": [*names, "dc"], "strategy": "random"}]
    found = explained({"use": "many"}, pools=pools, proxies=[*PROXIES, *many])
    assert [one.name for one in found.egresses] == names[1:51]
    assert [(one.proxy, one.why) for one in found.left_out] == [("p0", "it is inactive")]
    assert (found.strategy, found.states) == ("random", {})
    assert "strategy random picks one of them when a flow comes; nothing is picked" in found.note


async def test_running_proxies_say_how_they_fare(tmp_path: Path) -> None:
    rules = [{"hosts": ["one.test"], "use": "home-1"}, {"use": "homes"}]
    async with managed(tmp_path, registry="", policy={**policy(), "rules": rules}) as management:
        fail(management, "home-1")

        def ask(url: str) -> Explanation:
            return management.explain(ExplainQuery(url=url))

        found = ask("https://origin.test/")
        assert found.states == {"closed": 2, "open": 1}
        [first, *_] = found.egresses
        assert first.now is not None
        assert (first.now.state, first.now.why) == ("open", "3 x connect_refused")
        assert "nothing is picked here" in found.note
        assert management.members.list("homes").items[1].picks == 0
        alone = ask("https://one.test/")
        assert (alone.outcome, alone.states) == ("egress", {})
        assert alone.note == "it is not available now: new connections are refused"
        for name in NAMES[1:]:
            fail(management, name)
        dead = ask("https://origin.test/")
        assert dead.note == "none of them is available now: new connections are refused"


def test_direct_dials_the_target_itself() -> None:
    found = explained(url="ws://[2001:db8::1]/chat")
    assert (found.rule, found.why) == ("default", "no rule matches, the default is direct")
    (egress,) = found.egresses
    assert (egress.type, egress.host, egress.port) == ("direct", "2001:db8::1", 80)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"use": "refuse"}, Reason.RULE),
        ({"use": "direct", "family": "ipv4"}, Reason.LITERAL_CONTRADICTION),
        ({"use": "dc"}, Reason.LITERAL_CONTRADICTION),
    ],
)
def test_refusal_says_why_and_shows_nothing_to_dial(rule: dict[str, Any], reason: Reason) -> None:
    found = explained(rule, url="https://[2001:db8::1]/")
    assert (found.outcome, found.code, found.reason) == ("refuse", reason.code, reason)
    assert found.detail
    assert found.egresses == ()


def test_member_that_can_be_asked_is_enough() -> None:
    pools = [{"name": "both", "members": ["dc", "v6"]}]
    found = explained({"use": "both"}, pools=pools, url="https://[2001:db8::1]/")
    assert found.outcome == "egress"


@pytest.mark.parametrize(
    ("rule", "query", "matches"),
    [
        ({"filter": "~m POST"}, {"method": "POST"}, True),
        ({"filter": "~m POST"}, {}, False),
        ({"filter": "~hq x-account:.one"}, {"headers": {"X-Account": "one"}}, True),
        ({"filter": "~src 192.0.2.9"}, {"client": "192.0.2.9"}, True),
        ({"clients": ["192.0.2.0/24"]}, {"client": "::ffff:192.0.2.9"}, True),
        ({"clients": ["192.0.2.0/24"]}, {}, False),
        ({"hosts": ["*.test"], "ports": [443]}, {}, True),
    ],
)
def test_request_is_what_rules_are_asked_about(
    rule: dict[str, Any], query: dict[str, Any], matches: bool
) -> None:
    found = explained({**rule, "use": "refuse"}, query=query)
    assert (found.outcome == "refuse") is matches


@pytest.mark.parametrize(
    ("query", "field"),
    [({"url": "origin.test"}, "url"), ({"url": "http://a/", "client": "localhost"}, "client")],
)
def test_what_cannot_be_asked_names_the_field(query: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        target_of(ExplainQuery(**query), request_for)
    assert caught.value.field == field


def test_a_target_that_is_refused_whatever_the_rules_say() -> None:
    snapshot = build_snapshot(Policy(), compile_filter)
    refusal = Refusal(Reason.LOOP, "a listener")
    query = ExplainQuery(url="http://127.0.0.1:8080/")
    found = explain(snapshot, query, request_for, lambda host, port: refusal)
    assert (found.outcome, found.reason, found.egresses) == ("refuse", "loop", ())


def test_a_hundred_rules_around_the_deciding_one_are_listed_unless_all_are_asked_for() -> None:
    rules = [{"hosts": [f"n{number}.test"], "use": "refuse"} for number in range(1000)]
    url = "http://n700.test/"
    found = explained(*rules, url=url)
    assert (len(found.rules), found.rules_before, found.rules_after) == (100, 650, 251)
    assert [one.rule for one in found.rules if one.verdict == "matched"] == ["#701"]
    every = explained(*rules, url=url, query={"all_rules": True})
    assert (len(every.rules), every.rules_before, every.rules_after) == (1001, 0, 0)
    assert found.rules == every.rules[650:750]
