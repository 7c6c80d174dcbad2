"""One change of many proxies: what is changed, what stays and why, and what it costs."""

from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management.bulk import BulkEdit
from egress_policy.management.management import Management
from tests.helpers.management import hop, managed

FILE: dict[str, Any] = {"proxies": [{"name": "ours", "host": "192.0.2.9"}]}


async def make(management: Management, *names: str, **fields: Any) -> list[str]:
    """The ids of new proxies with a hostname, which can have any family."""
    stated = {"host": "proxy.example", **fields}
    return [(await management.proxies.create(hop(name, **stated))).id for name in names]


def families(management: Management) -> dict[str, str]:
    return {one.name: one.family for one in management.proxies.list().items}


async def test_all_that_can_be_changed_is_changed_and_the_others_are_reported(
    tmp_path: Path,
) -> None:
    async with managed(tmp_path, policy=FILE) as management:
        ids = await make(management, "a", "b")
        literal = await make(management, "v4", host="192.0.2.1")
        keys = [*ids, "a", *literal, "file:ours", "gone"]
        report = await management.bulk.edit(keys, BulkEdit({"family": "ipv6", "region": "eu"}))
        assert report.done == 2
        assert [(one.name, one.code) for one in report.failed] == [
            ("ours", "READ_ONLY"),
            ("gone", "NOT_FOUND"),
            ("v4", "INVALID_ENTRY"),
        ]
        assert "contradicts IPv4 literal" in report.failed[-1].message
        assert families(management) == {"a": "ipv6", "b": "ipv6", "ours": "auto", "v4": "auto"}
        assert management.proxies.show("a").region == "eu"


async def test_change_is_one_revision_and_in_force_at_once(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        ids = await make(management, "a", "b", "c")
        before = management.in_force.stored.revision
        await management.bulk.edit(ids, BulkEdit({"status": "inactive"}))
        assert management.in_force.stored.revision == before + 1
        proxies = management.router.snapshot.proxies.values()
        assert [one.status for one in proxies] == ["inactive"] * 3


@pytest.mark.parametrize(
    ("pools", "stay"),
    [
        ([("a", "b", "c")], ""),
        ([("a", "b", "v4")], "ab"),
        ([("a", "b"), ("b", "v4")], "ab"),
        ([("a", "b"), ("c", "v4")], "c"),
    ],
)
async def test_members_of_a_pool_change_their_family_together_or_not_at_all(
    tmp_path: Path, pools: list[tuple[str, ...]], stay: str
) -> None:
    async with managed(tmp_path) as management:
        ids = await make(management, "a", "b", "c", family="ipv4")
        ids += await make(management, "v4", host="192.0.2.1", family="ipv4")
        for number, members in enumerate(pools):
            named = [{"name": name} for name in members]
            await management.pools.create({"name": f"pool {number}", "members": named})
        report = await management.bulk.edit(ids, BulkEdit({"family": "ipv6"}))
        assert {one.name for one in report.failed} == {*stay, "v4"}
        found = families(management)
        assert {name for name, family in found.items() if family == "ipv4"} == {*stay, "v4"}
        assert management.in_force.policy.pools  # none of them contradicts itself


async def test_tags_are_added_and_removed_beside_those_that_each_has(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        ids = await make(management, "a", tags=["eu", "old"])
        ids += await make(management, "b")
        edit = BulkEdit(add_tags=["EU", "fast"], remove_tags=["OLD"])
        report = await management.bulk.edit(ids, edit)
        assert (report.done, report.failed) == (2, ())
        tags = {one.name: one.tags for one in management.proxies.list().items}
        assert tags == {"a": ("eu", "fast"), "b": ("eu", "fast")}
        report = await management.bulk.edit(ids, BulkEdit(add_tags=["two words"]))
        assert [one.code for one in report.failed] == ["INVALID_ENTRY"] * 2
        await management.bulk.edit(ids, BulkEdit({"tags": []}))
        assert not management.proxies.labels().tags


async def test_what_is_in_use_is_deleted_by_force_alone(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        ids = await make(management, "used", "free")
        await management.rules.create({"use": "used"})
        report = await management.bulk.edit(ids, BulkEdit(delete=True))
        assert (report.done, [one.code for one in report.failed]) == (1, ["IN_USE"])
        assert list(families(management)) == ["used"]
        report = await management.bulk.edit(ids[:1], BulkEdit(delete=True, force=True))
        assert (report.done, report.failed, families(management)) == (1, (), {})


@pytest.mark.parametrize(
    "edit",
    [
        BulkEdit(),
        BulkEdit({"region": "eu"}, delete=True),
        BulkEdit({"region": "eu"}, force=True),
        BulkEdit(add_tags=["eu"], delete=True),
        BulkEdit({"tags": []}, add_tags=["eu"]),
    ],
)
async def test_edit_that_contradicts_itself_is_rejected(tmp_path: Path, edit: BulkEdit) -> None:
    async with managed(tmp_path) as management:
        with pytest.raises(InvalidEntry):
            await management.bulk.edit(["a"], edit)
