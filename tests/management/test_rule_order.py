"""The one list of what decides: its order, where each comes from, and what is known of it."""

import random
from pathlib import Path
from typing import Any

from egress_policy.management.explain import ExplainQuery
from egress_policy.management.management import Management
from egress_policy.management.rule_facts import why_never
from egress_policy.management.rule_order import OrderedRule
from egress_policy.registry.registry import Edit
from tests.helpers.management import hop, managed
from tests.management.test_history import event

FILE = {"proxies": [hop("f")], "rules": [{"hosts": ["a.test"], "use": "f"}]}


async def listed(management: Management, **how: Any) -> list[OrderedRule]:
    return [*(await management.rule_order.list(**how)).items]


async def fill(management: Management) -> None:
    """An entry of each origin."""
    for name in ("one", "gone"):
        await management.proxies.create(hop(name))
    await management.rules.create({"hosts": ["*.test"], "use": "one"})
    await management.rules.create({"hosts": ["a.test"], "use": "gone", "name": "lost"})
    await management.proxies.delete("gone", force=True)
    await management.assignments.assign("global", None, "one")
    await management.assignments.assign("host", "*.b.test", "one")
    await management.assignments.assign("client", "192.0.2.0/24", "one", group="shop")


async def test_each_origin_has_its_place(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        await fill(management)
        found = await listed(management)
        assert [(one.number, one.origin, one.label) for one in found] == [
            (1, "file", "file #1"),
            (2, "assignment", "client:192.0.2.0/24"),
            (3, "assignment", "host:*.b.test"),
            (4, "registry", "#1"),
            (5, "registry", "lost"),
            (6, "global", "global:__global__"),
            (7, "default", "default"),
        ]
        ids = {one.id for one in management.rules.list().items}
        ids |= {one.id for one in management.assignments.list().items}
        assert {one.id for one in found} == ids | {None}
        lost, default = found[4], found[6]
        assert "There is no proxy or pool gone" in lost.refuses
        assert (lost.never_by, lost.hits) == (("file #1",), 0)
        assert lost.never == "rule file #1 before it matches all that it matches"
        assert (default.use, default.never_by) == ("direct", ("global:__global__",))
        assert [one.never for one in found[:4]] == [""] * 4
        assert found[1].clients == ("192.0.2.0/24",)
        assert [one.group for one in found] == ["", "shop", *[""] * 5]
        await management.rules.update(lost.id or "", {"use": "f"}, lost.etag)  # its etag is good


async def test_hits_stand_in_both_lists(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        await fill(management)
        for label in ("file #1", "#1", "#1", "host:*.b.test", "default"):
            management.live.publish(event(rule=label))
        found = {one.label: one.hits for one in await listed(management)}
        assert found == {
            "file #1": 1, "client:192.0.2.0/24": 0, "host:*.b.test": 1,
            "#1": 2, "lost": 0, "global:__global__": 0, "default": 0,
        }  # fmt: skip
        rules = {one.label: (one.hits, one.last_hit) for one in management.rules.list().items}
        at = "1970-01-01T00:00:01.500Z"
        assert rules == {"file #1": (1, at), "#1": (2, at), "lost": (0, None)}


async def test_nothing_is_counted_where_no_flow_leaves(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        pass
    assert management.rule_facts.of("file #1")["hits"] is None


async def test_the_list_is_searched_and_paged(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        await fill(management)
        assert [one.label for one in await listed(management, q="B.TEST")] == ["host:*.b.test"]
        assert [one.label for one in await listed(management, q="direct")] == ["default"]
        found = await management.rule_order.list(limit=2, offset=1)
        assert [one.number for one in found.items] == [2, 3]
        assert found.page.total == 7


async def test_a_policy_that_refuses_everything_has_its_default_alone(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        await fill(management)
        management.in_force.refuse_all("of a test")
        assert [(one.label, one.use) for one in await listed(management)] == [("default", "refuse")]


def conditions(chance: random.Random) -> dict[str, Any]:
    """Some conditions of a rule."""
    several: dict[str, list[Any]] = {
        "hosts": ["a.test", "*.test", "b.a.test", "*"],
        "clients": ["192.0.2.0/24", "::/0"],
        "ports": [80, 443],
    }
    made: dict[str, Any] = {
        name: chance.sample(values, chance.randint(1, 2))
        for name, values in several.items()
        if chance.random() < 0.4
    }
    return made | ({"filter": chance.choice(["~m GET", "~m POST"])} if made == {} else {})


async def test_explain_agrees_with_the_list(tmp_path: Path) -> None:
    chance = random.Random(7)
    scopes = [("global", None), ("host", "a.test"), ("host", "*.test"), ("client", "192.0.2.0/24")]
    queries = [
        ExplainQuery(url=url, client=client, method=method, all_rules=True)
        for url in ("http://a.test/", "https://b.a.test/", "http://other:8080/")
        for client in ("192.0.2.7", "198.51.100.1", "2001:db8::1")
        for method in ("GET", "POST")
    ]
    policy = {"rules": [{"use": "direct", "hosts": ["x.a.test"]}, {"use": "direct", "ports": [1]}]}
    async with managed(tmp_path, policy=policy, registry=":memory:") as management:
        proxy = await management.proxies.create(hop("one"))

        def edit(changes: Edit) -> None:
            state = changes.load()
            for rule in state.rules:
                changes.rules.delete(rule.id)
            for one in state.assignments:
                changes.assignments.put(one.scope, one.scope_id, None)
            for _ in range(chance.randint(0, 5)):
                changes.rules.create({"use": "direct", **conditions(chance)})
            for scope in chance.sample(scopes, chance.randint(0, 3)):
                changes.assignments.put(*scope, proxy.id)

        seen = set()
        for _ in range(25):
            await management.upkeep.change(edit)
            found = await listed(management)
            lost = {one.label for one in found if one.never}
            seen |= {one.origin for one in found} | ({"lost"} if lost else set())
            for query in queries:
                told = management.explain(query)
                assert [one.rule for one in told.rules] == [one.label for one in found]
                assert told.rule not in lost
        assert len(seen) == 6


def test_a_clause_names_the_rules_before() -> None:
    assert why_never(()) == ""
    assert why_never(("a", "b")) == "rules a, b before it together match all that it matches"
    assert why_never(tuple("abcde")).startswith("rules a, b, c and 2 more before it together")
