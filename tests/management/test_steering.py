"""Giving hosts another way out, and taking it back: judged by what the policy then says."""

import asyncio
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import Conflict, InvalidEntry, NotFound, RegistryUnavailable
from egress_policy.management.explain import ExplainQuery
from egress_policy.management.management import Management
from egress_policy.management.steering import STEPS
from egress_policy.registry.rules import RuleTable
from tests.helpers.management import hop, managed

FILE: dict[str, Any] = {
    "proxies": [{"name": "filed", "host": "192.0.2.9"}],
    "pools": [{"name": "file-pool", "members": ["filed"]}],
}
USES = ("one", "homes", "direct", "refuse", "filed", "file-pool", "clear")


async def stock(management: Management) -> None:
    """A proxy, a pool, and a rule of the registry that matches everything."""
    await management.proxies.create(hop("one"))
    await management.pools.create({"name": "homes", "members": ["one"]})
    await management.rules.create({"name": "all", "hosts": ["*"], "use": "one"})


def way(management: Management, host: str) -> str:
    found = management.explain(ExplainQuery(url=f"https://{host}/"))
    way = found.pool or next((one.name for one in found.egresses), "refuse")
    return f"{way} ({found.rule})"


async def test_host_takes_what_it_was_given_last_and_undo_goes_back(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        await stock(management)
        steering = management.steering
        for pair in product(USES, USES):
            seen = [way(management, "a.test")]
            assert seen == ["one (all)"]
            for use in pair:
                [said] = (await steering.use(["a.test"], use)).changed
                label = "host:a.test" if use == "one" else "use:a.test"
                decides = "one (all)" if use == "clear" else f"{use} ({label})"
                assert (said.before, said.after, said.overruled_by) == (seen[-1], decides, "")
                seen.append(way(management, "a.test"))
                assert seen[-1] == decides
                assert way(management, "b.test") == "one (all)"
            assert (await steering.undo()).undone == f"a.test: {pair[1]}"
            assert way(management, "a.test") == seen[1]
            await steering.undo()
        assert way(management, "a.test") == "one (all)"
        assert len(management.rules.list().items) == 1
        assert management.assignments.list().items == ()
        with pytest.raises(NotFound, match="nothing to undo"):
            await steering.undo()


async def test_many_hosts_are_changed_and_taken_back_at_once(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await stock(management)
        hosts = ["a.test", "2001:db8::1", "192.0.2.77", "b." * 100 + "test", "A.test"]
        said = await management.steering.use(hosts, "refuse")
        assert [one.host for one in said.changed] == hosts[:4]
        assert {one.after.split()[0] for one in said.changed} == {"refuse"}
        assert {one.lasts for one in said.changed} == {"for all clients, until it is cleared"}
        assert (await management.steering.undo()).undone == "4 hosts: refuse"
        assert [one.label for one in management.rules.list().items] == ["all"]


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("[2001:DB8::1]", "2001:db8::1"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("A.test.", "a.test"),
    ],
)
async def test_host_may_be_written_in_other_ways(tmp_path: Path, written: str, host: str) -> None:
    async with managed(tmp_path) as management:
        await stock(management)
        [said] = (await management.steering.use([written], "refuse")).changed
        assert (said.host, said.before) == (host, "one (all)")
        assert said.after == f"refuse (use:{host})"


@pytest.mark.parametrize("kind", ["proxy", "pool", "filed"])
async def test_clear_never_takes_the_place_of_an_egress_of_that_name(
    tmp_path: Path, kind: str
) -> None:
    policy = {"proxies": [{"name": "clear", "host": "192.0.2.9"}]} if kind == "filed" else {}
    async with managed(tmp_path, policy=policy) as management:
        await stock(management)
        if kind == "proxy":
            await management.proxies.create(hop("clear"))
        elif kind == "pool":
            await management.pools.create({"name": "clear", "members": ["one"]})
        await management.steering.use(["a.test"], "refuse")
        with pytest.raises(InvalidEntry, match="another name") as raised:
            await management.steering.use(["a.test"], "clear")
        assert raised.value.field == "use"
        assert way(management, "a.test") == "refuse (use:a.test)"


async def test_many_hosts_give_no_other_rule_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take longer with each rule that there is, until the registry gives no answer."""
    async with managed(tmp_path) as management:
        await stock(management)
        await management.steering.use(["first.test"], "refuse")
        monkeypatch.setattr(RuleTable, "_renumber", None)
        hosts = [f"h{number}.test" for number in range(60)]
        await management.steering.use(hosts, "refuse")
        await management.steering.use(hosts, "direct")
        await management.steering.undo()
        assert {way(management, host).split()[0] for host in hosts} == {"refuse"}
        assert way(management, "first.test") == "refuse (use:first.test)"
        assert management.rules.list(limit=100).items[-1].label == "all"


async def test_assignment_keeps_its_group_and_gets_it_back(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await stock(management)
        await management.proxies.create(hop("two"))
        await management.assignments.assign("host", "a.test", "one", group="mine")
        await management.steering.use(["a.test"], "two")
        await management.steering.use(["a.test"], "direct")
        for proxy in ("two", "one"):
            await management.steering.undo()
            [kept] = management.assignments.list().items
            assert (kept.proxy, kept.group) == (proxy, "mine")


async def test_earlier_rule_that_overrules_is_named(tmp_path: Path) -> None:
    rules = [{"name": "mine", "hosts": ["a.test"], "ports": [8443], "use": "direct"}]
    async with managed(tmp_path, policy={**FILE, "rules": rules}) as management:
        [said] = (await management.steering.use(["a.test"], "refuse")).changed
        assert said.overruled_by == ""
        query = ExplainQuery(url="https://a.test:8443/")
        [said] = (await management.steering.use(["a.test"], "refuse", {"a.test": query})).changed
        assert (said.after, said.overruled_by) == ("direct (mine)", "mine")


@pytest.mark.parametrize(
    ("hosts", "use", "field"),
    [
        ([], "direct", "hosts"),
        ([f"h{number}.test" for number in range(1001)], "direct", "hosts"),
        (["*.a.test"], "direct", "hosts"),
        (["a b"], "direct", "hosts"),
        (["a.test"], "nobody", "use"),
        (["a.test"], "http://u:s3cret@h.test:1", "use"),
    ],
)
async def test_what_cannot_be_steered_changes_nothing(
    hosts: list[str], use: str, field: str, tmp_path: Path
) -> None:
    async with managed(tmp_path) as management:
        await management.proxies.create(hop("one"))
        await management.steering.use(["a.test"], "one")
        with pytest.raises(InvalidEntry) as raised:
            await management.steering.use(["a.test", *hosts] if use != "direct" else hosts, use)
        assert raised.value.field == field
        assert "s3cret" not in str(raised.value)
        assert way(management, "a.test") == "one (host:a.test)"


async def test_nothing_is_undone_that_somebody_changed_again(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await stock(management)
        await management.steering.use(["a.test", "b.test"], "direct")
        rule = next(one for one in management.rules.list().items if one.label == "use:a.test")
        await management.rules.update(rule.id, {"use": "homes"})
        with pytest.raises(Conflict, match="changed again"):
            await management.steering.undo()
        assert way(management, "a.test") == "homes (use:a.test)"
        assert way(management, "b.test") == "direct (use:b.test)"
        with pytest.raises(NotFound):  # it can never be taken back
            await management.steering.undo()


async def test_rule_that_a_person_edited_is_not_replaced(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await stock(management)
        await management.steering.use(["a.test"], "direct")
        rule = next(one for one in management.rules.list().items if one.label == "use:a.test")
        await management.rules.update(rule.id, {"ports": [443]})
        with pytest.raises(Conflict, match=r"'use:a\.test' was edited"):
            await management.steering.use(["a.test"], "refuse")
        assert way(management, "a.test") == "direct (use:a.test)"


async def test_status_of_a_proxy_is_taken_back(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await stock(management)
        await management.steering.set_status("one", "inactive")
        assert management.proxies.show("one").status == "inactive"
        assert (await management.steering.undo()).undone == "one: inactive"
        assert management.proxies.show("one").status == "active"
        await management.steering.set_status("one", "inactive")
        await management.proxies.update("one", {"status": "active"})
        with pytest.raises(Conflict):
            await management.steering.undo()


async def test_step_is_not_taken_back_in_another_registry(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.steering.use(["a.test"], "refuse")
        assert management.options
        other = replace(management.options, registry=":memory:")
        management.configure(other, tmp_path, {"EGRESS_KEY": "another key for these tests"})
        with pytest.raises(Conflict, match="another registry"):
            await management.steering.undo()
        [said] = (await management.steering.use(["a.test"], "refuse")).changed
        assert said.lasts == "for all clients, until it is cleared or mitmproxy ends"


async def test_without_a_registry_nothing_is_steered(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="") as management:
        with pytest.raises(RegistryUnavailable, match="egress_registry is empty"):
            await management.steering.use(["a.test"], "direct")


async def test_steps_are_bounded_and_step_over_each_other_never(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        uses = ("direct", "refuse")
        await asyncio.gather(
            *(management.steering.use(["a.test"], uses[n % 2]) for n in range(STEPS + 5))
        )
        for _ in range(STEPS):
            await management.steering.undo()
        with pytest.raises(NotFound):
            await management.steering.undo()
