from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import InUse, InvalidEntry, NotFound, ReadOnly
from egress_policy.management.management import Management
from egress_policy.management.proxies import Proxies
from egress_policy.management.test_result import TestResult
from egress_policy.management.usage import Uses
from tests.helpers.management import hop, managed

FILE: dict[str, Any] = {
    "proxies": [{"name": "ours", "host": "192.0.2.9", "username": "u", "password": "secret"}],
    "pools": [{"name": "file-pool", "members": ["ours"]}],
    "rules": [{"hosts": ["f.test"], "use": "ours"}, {"name": "named", "use": "file-pool"}],
}


def names(management: Management, **query: Any) -> list[str]:
    return [one.name for one in management.proxies.list(**query).items]


async def test_entries_of_file_and_registry_are_listed_together(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        await management.proxies.create(hop("alpha", password="secret", username="u"))
        listed = management.proxies.list()
        assert [(one.name, one.source) for one in listed.items] == [
            ("alpha", "registry"),
            ("ours", "file"),
        ]
        assert all(one.password.set for one in listed.items)
        assert "secret" not in listed.model_dump_json()
        assert [one.name for one in management.pools.list().items] == ["file-pool"]
        await management.rules.create({"use": "alpha"})
        labels = [(one.label, one.source) for one in management.rules.list().items]
        assert labels == [("file #1", "file"), ("named", "file"), ("#1", "registry")]


async def test_list_is_searched_filtered_sorted_and_paged(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        for name, family, status, host in (
            ("b", "ipv6", "active", "one.example"),
            ("a", "ipv4", "inactive", "two.example"),
            ("c", "auto", "active", "three.example"),
        ):
            fields = hop(name, family=family, status=status, host=host, region=f"r-{name}")
            await management.proxies.create(fields)
        assert names(management) == ["a", "b", "c"]
        assert names(management, sort="-name") == ["c", "b", "a"]
        assert names(management, sort="host") == ["b", "c", "a"]
        assert names(management, family="ipv6") == ["b"]
        assert names(management, status="active") == ["b", "c"]
        assert names(management, q="TWO.") == ["a"]
        assert names(management, q="r-c") == ["c"]
        assert names(management, source="file") == []
        assert names(management, region="r-a") == ["a"]
        assert names(management, type="https") == []
        assert names(management, limit=1, offset=1) == ["b"]
        assert management.proxies.list(limit=1).page.total == 3
        with pytest.raises(InvalidEntry, match="sort"):
            management.proxies.list(sort="password")
        with pytest.raises(InvalidEntry, match="test"):
            management.proxies.list(test="bad")


async def test_list_is_filtered_by_tags_and_says_which_there_are(tmp_path: Path) -> None:
    filed = {"proxies": [{"name": "filed", "host": "h.example", "tags": ["EU"]}]}
    async with managed(tmp_path, policy=filed) as management:
        await management.proxies.create(hop("both", tags=["eu", "fast"], region="de"))
        await management.proxies.create(hop("bare", region="de"))
        assert names(management, tag="eu") == ["both", "filed"]
        assert names(management, tag="fast, EU") == names(management, q="FAST") == ["both"]
        assert names(management, tag="slow") == names(management, tag="e") == []
        labels = management.proxies.labels()
        assert [(one.label, one.proxies) for one in labels.tags] == [("eu", 2), ("fast", 1)]
        assert [(one.label, one.proxies) for one in labels.regions] == [("de", 2)]
        await management.proxies.update("both", {"tags": ["slow"]})
        assert names(management, tag="eu") == ["filed"]
        assert names(management, tag="slow", region="de", status="active") == ["both"]


async def test_list_is_filtered_by_how_the_last_test_ended(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        for name in ("good", "bad", "new"):
            await management.proxies.create(hop(name))
        ended = {
            name: TestResult(ok=name == "good", at="", proxy=name, family="auto")
            for name in ("good", "bad")
        }
        proxies = Proxies(management.upkeep, Uses(management.in_force), ended.get)
        found = {
            test: [one.name for one in proxies.list(test=test).items]
            for test in ("good", "failed", "none", "")
        }
        assert found == {
            "good": ["good"],
            "failed": ["bad"],
            "none": ["new"],
            "": ["bad", "good", "new"],
        }


async def test_proxy_is_found_by_id_and_by_name(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        made = await management.proxies.create(hop("one"))
        assert management.proxies.show(made.id) == management.proxies.show("one") == made
        assert management.proxies.show("file:ours").source == "file"
        with pytest.raises(NotFound):
            management.proxies.show("nobody")


async def test_update_changes_only_the_given_fields(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.proxies.create(hop("one", family="ipv4", username="u", password="p"))
        changed = await management.proxies.update("one", {"port": 99})
        assert (changed.port, changed.family, changed.password.set) == (99, "ipv4", True)


async def test_entries_of_the_file_are_read_only(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        for attempt in (
            management.proxies.update("ours", {"port": 1}),
            management.proxies.delete("file:ours", force=True),
            management.pools.update("file-pool", {"members": []}),
            management.pools.delete("file-pool"),
            management.rules.update("named", {"use": "direct"}),
            management.rules.delete("file:1"),
            management.rules.move("named", None),
            management.assignments.assign("global", None, "ours"),
        ):
            with pytest.raises(ReadOnly):
                await attempt
        assert management.proxies.show("ours").port == 8080


async def test_list_that_follows_edits_is_the_one_that_is_made_anew(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        proxies, rules, upkeep = management.proxies, management.rules, management.upkeep
        for name in ("one", "two", "Two", "three"):
            await proxies.create(hop(name))
        fares = lambda proxy: management.states.of(proxy.name)  # noqa: E731
        edits: list[Callable[[], Awaitable[object]]] = [
            lambda: proxies.update("two", {"name": "ten", "host": "ten.example"}),
            lambda: rules.create({"use": "one"}),
            lambda: proxies.update("one", {"status": "inactive", "notes": "Weekend"}),
            lambda: proxies.delete("three"),
            lambda: proxies.delete("one", force=True),
            lambda: proxies.create(hop("one")),
        ]
        queries: list[dict[str, Any]]
        queries = [{"sort": "name"}, {"sort": "-used_by"}, {"q": "e"}, {"source": "file"}]
        for edit in edits:
            await edit()
            for query in queries:
                anew = Proxies(upkeep, Uses(upkeep.in_force), fares=fares).list(**query)
                assert proxies.list(**query) == anew
            assert {one.id for one in anew.items} == {"file:ours"}


async def test_usage_counts_and_names_all_that_name_an_entry(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        one = await management.proxies.create(hop("one"))
        pool = await management.pools.create({"name": "homes", "members": ["one"]})
        rule = await management.rules.create({"name": "theirs", "use": "one"})
        await management.assignments.assign("host", "a.test", "one")
        usage = management.proxies.usage("one")
        assert usage.count == management.proxies.show("one").used_by == 3
        assert [ref.name for ref in usage.pools] == ["homes"]
        assert [ref.name for ref in usage.rules] == ["theirs"]
        assert [ref.name for ref in usage.assignments] == ["host:a.test"]
        assert management.proxies.usage("ours").count == 2
        with pytest.raises(InUse):
            await management.proxies.delete(one.id)
        await management.proxies.delete(one.id, force=True)
        assert "deleted" in management.rules.show(rule.id).refuses
        assert management.pools.show(pool.id).name == "homes"


async def test_rules_are_ordered(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        a, b = [await management.rules.create({"name": n, "use": "refuse"}) for n in "ab"]
        c = await management.rules.create({"name": "c", "use": "refuse"}, before=a.id)
        await management.rules.move(a.id, None)
        assert [one.name for one in management.rules.list().items] == ["c", "b", "a"]
        await management.rules.reorder([a.id, b.id, c.id])
        assert [one.number for one in management.rules.list().items] == [1, 2, 3]
        assert management.rules.show("a").number == 1


async def test_assignments_are_listed_by_scope_and_cleared(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        one = await management.proxies.create(hop("one"))
        await management.assignments.assign("host", "a.test", one.id)
        made = await management.assignments.assign("global", None, "one")
        assert made is not None
        assert (made.scopeId, made.proxyId, made.proxy) == ("__global__", one.id, "one")
        assert management.assignments.list(scope="host").page.total == 1
        assert management.assignments.list(proxy_id=one.id).page.total == 2
        assert await management.assignments.assign("global", None, None) is None
        assert management.assignments.list(scope="global").page.total == 0


async def test_settings_change_one_by_one(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.settings.change({"test_url": "https://ip.example/"})
        shown = await management.settings.change({"default": "refuse"})
        assert (shown.default, shown.test_url) == ("refuse", "https://ip.example/")
        cleared = await management.settings.change({"default": None})
        assert cleared.default is None
        assert management.settings.show() == cleared
