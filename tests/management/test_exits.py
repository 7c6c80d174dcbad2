"""What faces are given of exits: lists, warnings, sharing, and what programs push."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from egress_policy.errors import InvalidEntry, NotFound
from egress_policy.management.exit_views import Pushed
from egress_policy.policy.exits import STALE_AFTER
from tests.helpers.exits import C6, A, B, Place, said
from tests.helpers.management import managed


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with managed(tmp_path, registry=":memory:") as management:
        yield Place(management)


async def test_an_exit_is_shown_by_family_with_its_verdict(place: Place) -> None:
    id_ = await place.make()
    assert (await place.shown()).exits == ()
    for _ in range(3):
        place.saw(A, after=300)
    place.saw(C6, after=1)
    ipv4, ipv6 = (await place.shown(id_)).exits
    assert (ipv4.family, ipv4.verdict, ipv4.address) == ("ipv4", "stable", A)
    assert (ipv4.at, ipv4.source, ipv4.observations) == ("2026-01-02T12:15:00.000Z", "echo", 3)
    assert (ipv6.family, ipv6.verdict, ipv6.address) == ("ipv6", "unknown", C6)
    place.clock.now += STALE_AFTER + 1
    assert [one.verdict for one in (await place.shown()).exits] == ["stale", "stale"]


async def test_an_inactive_proxy_warns_of_nothing(place: Place) -> None:
    await place.make(exit_family="ipv6", status="inactive")
    place.saw(A)
    assert place.exits.warnings() == ()


async def test_warnings_end_somewhere(place: Place) -> None:
    for number in range(103):
        await place.make(f"p{number}", exit_enforce=True, exit_family="ipv4")
    warnings = place.exits.warnings()
    assert len(warnings) == 101
    assert warnings[-1] == "3 further warnings about exits: `egress-policy exits list`"


# -- what programs saw


async def test_a_program_may_push_what_it_saw(place: Place) -> None:
    id_ = await place.make()
    pushed = [
        Pushed("one", "::ffff:203.0.113.1", "2026-01-02T12:50:00+01:00"),
        Pushed(id_, A, "2026-01-02T11:58:00Z"),
        Pushed("one", A),
    ]
    assert await place.exits.push(pushed) == 3
    (seen,) = (await place.shown()).exits
    assert (seen.verdict, seen.address, seen.source, seen.observations) == ("stable", A, "push", 3)
    assert [row["at"] for row in place.journal.rows] == [
        "2026-01-02T11:50:00.000Z", "2026-01-02T11:58:00.000Z", "2026-01-02T12:00:00.000Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "error", "field"),
    [
        (Pushed("nobody", A), NotFound, "proxy"),
        (Pushed("one", "203.0.113.1, 203.0.113.2"), InvalidEntry, "address"),
        (Pushed("one", "fe80::1%eth0"), InvalidEntry, "address"),
        (Pushed("one", A, "yesterday"), InvalidEntry, "at"),
        (Pushed("one", A, "2026-01-02T12:00:00"), InvalidEntry, "at"),
        (Pushed("one", A, "2026-01-02T12:02:00Z"), InvalidEntry, "at"),
    ],
)
async def test_of_a_push_all_is_taken_or_nothing(
    place: Place, wrong: Pushed, error: type[Exception], field: str
) -> None:
    await place.make()
    with pytest.raises(error, match=rf"observations\.1\.{field}"):
        await place.exits.push([Pushed("one", A), wrong])
    assert (await place.shown()).exits == ()
    assert place.journal.rows == []


# -- lists


async def test_proxies_are_listed_by_pages(place: Place) -> None:
    for name in ("a", "b", "c"):
        await place.make(name)
    found = await place.exits.list(limit=2, offset=1)
    assert [one.proxy for one in found.items] == ["b", "c"]
    assert (found.page.total, found.page.offset) == (3, 1)
    with pytest.raises(NotFound):
        await place.exits.list(proxy="nobody")


async def test_proxies_whose_exit_is_not_as_expected_are_listed_alone(place: Place) -> None:
    for name in ("a", "b", "c"):
        await place.make(name, exit_family="ipv4")
    for name in ("b", "c"):
        await place.exits.push([Pushed(name, C6)])
    found = await place.exits.list(problem=True, limit=1, offset=1)
    assert ([one.proxy for one in found.items], found.page.total) == (["c"], 2)


# -- sharing


async def assigned(place: Place, **proxies: str) -> None:
    for user, proxy in proxies.items():
        await place.management.assignments.assign("user", user, proxy, group="accounts")


async def test_assignments_of_a_group_that_leave_by_one_exit_are_named(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        await place.make(name)
    await assigned(place, ann="one", bob="two")
    place.saw(A, "one")
    place.saw(B, "two")
    assert (await place.exits.shared()).items == ()
    place.saw(A, "two", after=1900)
    place.saw(A, "one")
    (found,) = (await place.exits.shared()).items
    assert (found.group, found.decided, found.exit) == ("accounts", True, A)
    users = [(one.assignment, one.proxy) for one in found.users]
    assert users == [("user:ann", "one"), ("user:bob", "two")]
    warning = "Group accounts: 2 assignments by one, two leave by one exit"
    assert place.exits.warnings() == (warning,)
    said(caplog)
    for _ in range(2):
        place.exits.say_sharing()
    assert said(caplog) == [f"Egress: {warning}"]


async def test_rotating_exits_are_said_to_be_undecidable(place: Place) -> None:
    for name in ("one", "two"):
        await place.make(name)
    await assigned(place, ann="one", bob="two")
    place.saw(A, "one")
    place.saw(B, "one", after=1)
    (found,) = (await place.exits.shared()).items
    assert (found.decided, found.exit, len(found.users)) == (False, "", 1)
    assert "is unknown" in place.exits.warnings()[0]


async def test_those_that_cannot_leave_share_nothing(place: Place) -> None:
    id_ = await place.make(status="inactive")
    await assigned(place, ann="one", bob="one")
    assert (await place.exits.shared()).items == ()
    with contextlib.suppress(NotFound):
        await place.management.proxies.delete(id_, force=True)
    assert (await place.exits.shared()).items == ()
