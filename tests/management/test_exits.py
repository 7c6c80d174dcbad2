"""What is known about exits: observed, judged, restored, shown, and what refuses for it."""

import contextlib
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry, NotFound, Reason
from egress_policy.management.exit_views import ProxyExits, Pushed
from egress_policy.management.exits import Exits
from egress_policy.management.journal import fingerprint
from egress_policy.management.management import Management
from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.policy.exits import FRESH, STALE_AFTER
from tests.helpers.clock import Clock
from tests.helpers.management import hop, managed

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
A, B, C6 = "203.0.113.1", "203.0.113.2", "2001:db8::1"


class Rows:
    """A journal in memory."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []

    def add_observations(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += rows

    async def observations(self) -> Sequence[Mapping[str, Any]]:
        return self.rows


@dataclass
class Place:
    management: Management
    clock: Clock = field(default_factory=Clock)
    journal: Rows = field(default_factory=Rows)
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exits = self.restarted()

    def restarted(self) -> Exits:
        """Exits as another run has them, on the same journal."""
        exits = Exits(
            self.management.in_force,
            self.journal,
            lambda key: self.management.proxies.row(key).name,
            self.clock,
            lambda: NOON + timedelta(seconds=self.clock.now - 1000),
        )
        exits.on_event = lambda *event: self.events.append(event)
        return exits

    async def make(self, name: str = "one", **fields: Any) -> str:
        return (await self.management.proxies.create(hop(name, **fields))).id

    def proxy(self, name: str = "one") -> Proxy:
        return self.management.in_force.snapshot.proxies[name]

    def saw(self, address: str, name: str = "one", after: float = 0) -> None:
        self.clock.now += after
        self.exits.seen(self.proxy(name), address, "echo")

    def refused(self, name: str = "one") -> Reason | None:
        proxy = self.proxy(name)
        refusal = self.exits.exit_refusal(Egress(proxy, proxy.family, proxy.target_family))
        return refusal.reason if refusal else None

    async def shown(self, name: str = "one") -> ProxyExits:
        (found,) = (await self.exits.list(proxy=name)).items
        return found


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with managed(tmp_path, registry=":memory:") as management:
        yield Place(management)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about exits; no address is in it."""
    texts = [one.getMessage() for one in caplog.records if "management.exit" in one.name]
    assert not any(address in text for text in texts for address in (A, B, C6))
    caplog.clear()
    return texts


# -- observing


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


async def test_an_edit_of_the_hop_makes_the_exit_unknown(place: Place) -> None:
    id_ = await place.make(username="session-1", password="secret")
    for changes in ({"password": "other"}, {"username": "session-2"}, {"port": 1081}):
        place.saw(A)
        assert (await place.shown()).exits
        await place.management.proxies.update(id_, changes)
        assert (await place.shown()).exits == (), changes
    place.saw(A)
    await place.management.proxies.update(id_, {"notes": "x", "exit_family": "ipv4"})
    assert (await place.shown()).exits


async def test_a_stable_exit_that_changes_is_counted_and_told(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.make()
    for _ in range(3):
        place.saw(A, after=300)
    assert place.exits.changes == 0
    place.saw(B, after=60)
    place.saw(A, after=60)
    assert place.exits.changes == 1
    assert place.events == [("exit-changed", "one", "its stable IPv4 exit has changed")]
    assert said(caplog) == ["Egress: proxy one: its stable IPv4 exit has changed"]


async def test_a_contradiction_is_said_once_and_so_is_its_end(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await place.make(exit_family="ipv6", exit_in=["2001:db8::/32"])
    why = "a target saw an IPv4 address, and exit_family is ipv6"
    for _ in range(3):
        place.saw(A, after=1)
    assert said(caplog) == [f"Egress: proxy one: {why}"]
    assert place.exits.warnings() == (f"Proxy one: {why}",)
    assert (await place.shown()).problem == f"Proxy one: {why}"
    assert place.exits.contradicted == 1
    place.saw(C6, after=1)
    assert said(caplog) == ["Egress: proxy one: its exit is as expected again"]
    assert (place.exits.warnings(), place.exits.contradicted) == ((), 0)
    assert [kind for kind, _, _ in place.events] == ["exit-contradicted", "exit-expected"]


async def test_events_are_told_in_sentences(tmp_path: Path) -> None:
    async with managed(tmp_path, registry=":memory:") as management:
        await management.proxies.create(hop(exit_family="ipv6"))
        for address in (A, C6):
            await management.exits.push([Pushed("one", address)])
        good, bad = (event.text for event in management.events.list("one"))
        assert re.fullmatch(r"the expected exit again since \d\d:\d\d", good)
        assert re.fullmatch(
            r"not the expected exit since \d\d:\d\d: a target saw an IPv4 address, .*", bad
        )


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


# -- refusing


async def test_enforcement_follows_what_is_seen(place: Place) -> None:
    id_ = await place.make(exit_enforce=True, exit_in=["203.0.113.1"], password="p", username="u")
    assert place.refused() is Reason.EXIT_UNVERIFIED
    place.saw(A)
    assert place.refused() is None
    place.clock.now += FRESH
    assert place.refused() is Reason.EXIT_UNVERIFIED
    place.saw(B)
    assert place.refused() is Reason.EXIT_MISMATCH
    place.saw(A)
    assert place.refused() is None
    await place.management.proxies.update(id_, {"password": "another account"})
    assert place.refused() is Reason.EXIT_UNVERIFIED


async def test_what_is_expected_may_change_without_a_look(place: Place) -> None:
    id_ = await place.make(exit_enforce=True, exit_in=[A])
    place.saw(A)
    assert place.refused() is None
    await place.management.proxies.update(id_, {"exit_in": [B]})
    assert place.refused() is Reason.EXIT_MISMATCH
    await place.management.proxies.update(id_, {"exit_in": [A]})
    assert place.refused() is None


async def test_nothing_else_is_refused(place: Place) -> None:
    await place.make(exit_family="ipv6")
    place.saw(A)
    assert place.refused() is None
    assert place.exits.exit_refusal(Egress(None)) is None


async def test_a_mismatch_is_told_when_it_begins(place: Place) -> None:
    """Not as long as it goes on, in whatever words; an edit of what is expected begins anew."""
    told: list[int] = []
    place.exits.on_mismatch = lambda: told.append(len(told))
    id_ = await place.make(exit_enforce=True, exit_family="ipv4", exit_in=[A])
    for address, number in ((A, 0), (B, 1), (C6, 1), (B, 1), (A, 1), (C6, 2), (B, 2)):
        place.saw(address, after=1)
        assert len(told) == number, address
    place.clock.now += 100 * STALE_AFTER
    assert len(told) == 2
    place.saw(B)
    assert len(told) == 2
    await place.management.proxies.update(id_, {"exit_in": [B]})
    place.saw(C6, after=1)
    assert len(told) == 3
    await place.management.proxies.update(id_, {"exit_enforce": False})
    place.saw(A, after=1)
    assert len(told) == 3


# -- pushing


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


# -- the journal


async def test_what_was_seen_comes_back_and_verifies_nothing(place: Place) -> None:
    await place.make(exit_enforce=True, exit_family="ipv4")
    for _ in range(3):
        place.saw(A, after=300)
    assert place.refused() is None
    place.exits = place.restarted()
    (seen,) = (await place.shown()).exits
    assert (seen.verdict, seen.address, seen.at) == ("stable", A, "2026-01-02T12:15:00.000Z")
    assert place.refused() is Reason.EXIT_UNVERIFIED
    place.saw(B, after=60)
    assert place.exits.changes == 1
    assert place.refused() is None


async def test_what_was_seen_of_another_hop_does_not_come_back(place: Place) -> None:
    id_ = await place.make()
    place.saw(A)
    await place.management.proxies.update(id_, {"port": 1081})
    place.exits = place.restarted()
    assert (await place.shown()).exits == ()


async def test_rows_that_make_no_sense_are_left_out(place: Place) -> None:
    await place.make()
    good = {"fingerprint": fingerprint(place.proxy()), "address": A, "source": "echo"}
    good["at"] = "2026-01-02T11:00:00.000Z"
    wrong = ({"address": "x"}, {"address": None}, {"at": 7}, {"at": "2026-01-02T12:00:01Z"})
    wrong += ({"source": "nobody"}, {"fingerprint": "x"})  # type: ignore[assignment]
    place.journal.rows = [{**good, **change} for change in wrong] + [good]
    (seen,) = (await place.shown()).exits
    assert (seen.observations, seen.at) == (1, "2026-01-02T11:00:00.000Z")


async def test_looks_that_only_repeat_the_last_are_not_written(place: Place) -> None:
    await place.make()
    for _ in range(600):
        place.saw(A, after=1)
    assert len(place.journal.rows) <= 12
    (seen,) = (await place.shown()).exits
    assert seen.at == "2026-01-02T12:10:00.000Z"


async def test_the_registry_keeps_observations_over_a_restart(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.proxies.create(hop())
        await management.exits.push([Pushed("one", A), Pushed("one", C6)])
    async with managed(tmp_path) as management:
        (found,) = (await management.exits.list()).items
        assert [one.address for one in found.exits] == [A, C6]
        assert management.status().exits.changes == 0


async def test_without_a_registry_exits_are_known_until_the_end(tmp_path: Path) -> None:
    policy = {"proxies": [hop()]}
    async with managed(tmp_path, registry="", policy=policy) as management:
        await management.exits.push([Pushed("file:one", A)])
        (found,) = (await management.exits.list()).items
        assert found.exits[0].address == A


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


async def test_the_last_known_address_is_told_until_it_is_stale(place: Place) -> None:
    await place.make()
    plain = Egress(place.proxy())
    assert place.exits.address(plain) == ""
    place.saw(A)
    place.saw(C6, after=1)
    assert place.exits.address(plain) == C6
    assert place.exits.address(Egress(place.proxy(), target_family="ipv4")) == A
    place.clock.now += STALE_AFTER + 1
    assert place.exits.address(plain) == ""
