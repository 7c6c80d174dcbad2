from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management.management import Management
from egress_policy.registry.errors import InUse, NotFound, ReadOnly
from tests.helpers.management import hop, managed

FILE: dict[str, Any] = {
    "proxies": [{"name": "ours", "host": "192.0.2.9", "username": "u", "password": "secret"}],
    "pools": [{"name": "file-pool", "members": ["ours"]}],
    "rules": [{"hosts": ["f.test"], "use": "ours"}, {"name": "named", "use": "file-pool"}],
}


def names(management: Management, **query: Any) -> list[str]:
    return [one.name for one in management.entries.proxies(**query).items]


async def test_entries_of_file_and_registry_are_listed_together(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        await management.entries.create_proxy(hop("alpha", password="secret", username="u"))
        listed = management.entries.proxies()
        assert [(one.name, one.source) for one in listed.items] == [
            ("alpha", "registry"),
            ("ours", "file"),
        ]
        assert all(one.password.set for one in listed.items)
        assert "secret" not in listed.model_dump_json()
        assert [one.name for one in management.entries.pools().items] == ["file-pool"]
        await management.entries.create_rule({"use": "alpha"})
        labels = [(one.label, one.source) for one in management.entries.rules().items]
        assert labels == [("file #1", "file"), ("named", "file"), ("#1", "registry")]


async def test_list_is_searched_filtered_sorted_and_paged(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        for name, family, status, host in (
            ("b", "ipv6", "active", "one.example"),
            ("a", "ipv4", "inactive", "two.example"),
            ("c", "auto", "active", "three.example"),
        ):
            fields = hop(name, family=family, status=status, host=host, region=f"r-{name}")
            await management.entries.create_proxy(fields)
        assert names(management) == ["a", "b", "c"]
        assert names(management, sort="-name") == ["c", "b", "a"]
        assert names(management, sort="host") == ["b", "c", "a"]
        assert names(management, family="ipv6") == ["b"]
        assert names(management, status="active") == ["b", "c"]
        assert names(management, q="TWO.") == ["a"]
        assert names(management, q="r-c") == ["c"]
        assert names(management, source="file") == []
        assert names(management, limit=1, offset=1) == ["b"]
        assert management.entries.proxies(limit=1).page.total == 3
        with pytest.raises(InvalidEntry, match="sort"):
            management.entries.proxies(sort="password")


async def test_proxy_is_found_by_id_and_by_name(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        made = await management.entries.create_proxy(hop("one"))
        assert management.entries.proxy(made.id) == management.entries.proxy("one") == made
        assert management.entries.proxy("file:ours").source == "file"
        with pytest.raises(NotFound):
            management.entries.proxy("nobody")


async def test_update_changes_only_what_is_stated(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.entries.create_proxy(hop("one", family="ipv4", username="u", password="p"))
        changed = await management.entries.update_proxy("one", {"port": 99})
        assert (changed.port, changed.family, changed.password.set) == (99, "ipv4", True)


async def test_what_the_file_states_is_read_only(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        entries = management.entries
        for attempt in (
            entries.update_proxy("ours", {"port": 1}),
            entries.delete_proxy("file:ours", force=True),
            entries.update_pool("file-pool", {"members": []}),
            entries.delete_pool("file-pool"),
            entries.update_rule("named", {"use": "direct"}),
            entries.delete_rule("file:1"),
            entries.move_rule("named", None),
            entries.assign("global", None, "ours"),
        ):
            with pytest.raises(ReadOnly):
                await attempt
        assert entries.proxy("ours").port == 8080


async def test_usage_counts_and_names_all_that_name_an_entry(tmp_path: Path) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        entries = management.entries
        one = await entries.create_proxy(hop("one"))
        pool = await entries.create_pool({"name": "homes", "members": ["one"]})
        rule = await entries.create_rule({"name": "theirs", "use": "one"})
        await entries.assign("host", "a.test", "one")
        usage = entries.usage("one")
        assert usage.count == entries.proxy("one").used_by == 3
        assert [ref.name for ref in usage.pools] == ["homes"]
        assert [ref.name for ref in usage.rules] == ["theirs"]
        assert [ref.name for ref in usage.assignments] == ["host:a.test"]
        assert entries.usage("ours").count == 2
        with pytest.raises(InUse):
            await entries.delete_proxy(one.id)
        await entries.delete_proxy(one.id, force=True)
        assert "deleted" in entries.rule(rule.id).refuses
        assert entries.pool(pool.id).name == "homes"


async def test_rules_are_ordered(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        entries = management.entries
        a, b = [await entries.create_rule({"name": n, "use": "refuse"}) for n in "ab"]
        c = await entries.create_rule({"name": "c", "use": "refuse"}, before=a.id)
        await entries.move_rule(a.id, None)
        assert [one.name for one in entries.rules().items] == ["c", "b", "a"]
        await entries.reorder_rules([a.id, b.id, c.id])
        assert [one.number for one in entries.rules().items] == [1, 2, 3]
        assert entries.rule("a").number == 1


async def test_assignments_are_listed_by_scope_and_cleared(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        entries = management.entries
        one = await entries.create_proxy(hop("one"))
        await entries.assign("host", "a.test", one.id)
        made = await entries.assign("global", None, "one")
        assert made is not None
        assert (made.scopeId, made.proxyId, made.proxy) == ("__global__", one.id, "one")
        assert entries.assignments(scope="host").page.total == 1
        assert entries.assignments(proxy_id=one.id).page.total == 2
        assert await entries.assign("global", None, None) is None
        assert entries.assignments(scope="global").page.total == 0


async def test_settings_change_one_by_one(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.entries.change_settings({"test_url": "https://ip.example/"})
        shown = await management.entries.change_settings({"default": "refuse"})
        assert (shown.default, shown.test_url) == ("refuse", "https://ip.example/")
        cleared = await management.entries.change_settings({"default": None})
        assert cleared.default is None
        assert management.entries.settings() == cleared
