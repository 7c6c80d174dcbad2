"""What is known about exits: observed, judged, restored, and what refuses for it."""

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from egress_policy.errors import Reason
from egress_policy.management.exit_views import Pushed
from egress_policy.management.journal import fingerprint
from egress_policy.model.decision import Egress
from egress_policy.policy.exits import FRESH, STALE_AFTER
from tests.helpers.exits import C6, A, B, Place, said
from tests.helpers.management import hop, managed


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with managed(tmp_path, registry=":memory:") as management:
        yield Place(management)


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
    assert place.known.changes == 0
    place.saw(B, after=60)
    place.saw(A, after=60)
    assert place.known.changes == 1
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
    assert place.exits.status().contradicted == 1
    place.saw(C6, after=1)
    assert said(caplog) == ["Egress: proxy one: its exit is as expected again"]
    assert place.exits.warnings() == ()
    assert place.exits.status().contradicted == 0
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
    assert place.known.exit_refusal(Egress(None)) is None


async def test_a_mismatch_is_told_when_it_begins(place: Place) -> None:
    """Not as long as it goes on, in whatever words; an edit of what is expected begins anew."""
    told: list[int] = []
    place.known.on_mismatch = lambda: told.append(len(told))
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


async def test_what_was_seen_comes_back_and_verifies_nothing(place: Place) -> None:
    await place.make(exit_enforce=True, exit_family="ipv4")
    for _ in range(3):
        place.saw(A, after=300)
    assert place.refused() is None
    place.restart()
    (seen,) = (await place.shown()).exits
    assert (seen.verdict, seen.address, seen.at) == ("stable", A, "2026-01-02T12:15:00.000Z")
    assert place.refused() is Reason.EXIT_UNVERIFIED
    place.saw(B, after=60)
    assert place.known.changes == 1
    assert place.refused() is None


async def test_what_was_seen_of_another_hop_does_not_come_back(place: Place) -> None:
    id_ = await place.make()
    place.saw(A)
    await place.management.proxies.update(id_, {"port": 1081})
    place.restart()
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


async def test_the_last_known_address_is_told_until_it_is_stale(place: Place) -> None:
    await place.make()
    plain = Egress(place.proxy())
    assert place.known.address(plain) == ""
    place.saw(A)
    place.saw(C6, after=1)
    assert place.known.address(plain) == C6
    assert place.known.address(Egress(place.proxy(), target_family="ipv4")) == A
    place.clock.now += STALE_AFTER + 1
    assert place.known.address(plain) == ""
