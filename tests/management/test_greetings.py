"""Greetings: whose circuits wait for a trial is greeted in turns, and is back when it answers.

Time is simulated, and the sender is made up.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from egress_policy.management.checks import Checker
from egress_policy.model.decision import Egress
from egress_policy.policy.health import Health
from egress_policy.policy.hop import Outcome
from tests.helpers.checked import proxy
from tests.helpers.checking import REFUSED, Scene, place, settle


async def test_half_open_proxy_is_greeted_twice_at_once_and_is_back() -> None:
    subject = place()
    await subject.go(5)
    assert subject.sender.sent == []
    subject.circuits.put("half-open", subject.egress("p1"))
    await subject.go(0.5)
    assert subject.sender.sent == [("greet", "p1")] * 2
    assert subject.circuits.held["p1"].state == "closed"
    assert [found[:3] for found in subject.reported] == [("p1", ("p1.test", 8080), "homes")] * 2
    await subject.go(60)
    assert len(subject.sender.sent) == 2


async def test_failed_greeting_is_not_repeated_at_once() -> None:
    subject = place()
    subject.sender.failures["p1"] = REFUSED
    subject.circuits.put("half-open", subject.egress("p1"))
    await subject.go(10)
    assert subject.sender.sent == [("greet", "p1")]
    assert subject.circuits.held["p1"].state == "open"
    assert subject.checks.outcomes == {"failed": 1}


async def test_pool_whose_members_are_all_dead_has_one_greeting_a_second() -> None:
    subject = place(20)
    subject.sender.failures = {f"p{number}": REFUSED for number in range(20)}
    for _ in range(30):
        dead = [subject.egress(f"p{number}") for number in range(20)]
        subject.circuits.put("half-open", *dead)
        await subject.go(1)
    assert 29 <= len(subject.sender.sent) <= 31


async def test_ten_thousand_dead_members_cause_no_more_than_twenty_a_second() -> None:
    subject = place(10_000)
    names = [f"p{number}" for number in range(10_000)]
    subject.sender.failures = dict.fromkeys(names, REFUSED)
    subject.circuits.put("half-open", *map(subject.egress, names))
    seen = 0
    for _ in range(5):
        await subject.go(1)
        assert 10 <= len(subject.sender.sent) - seen <= 20
        seen = len(subject.sender.sent)


async def test_greetings_that_follow_at_once_count_too() -> None:
    subject = place(10_000)
    subject.circuits.put("half-open", *(subject.egress(f"p{number}") for number in range(10_000)))
    await subject.go(10)
    assert 150 <= len(subject.sender.sent) <= 200


@pytest.mark.parametrize("fields", [{"status": "inactive"}, {"username": "u"}], ids=str)
async def test_edited_or_inactive_proxy_is_not_greeted(fields: dict[str, Any]) -> None:
    subject = place(1)
    subject.circuits.put("half-open", subject.egress("p0"))
    subject.policy.snapshot = place(1, proxies=[proxy("p0", **fields)]).policy.snapshot
    await subject.go(10)
    assert subject.sender.sent == []


async def test_edit_ends_what_is_under_way_for_a_proxy_that_it_takes_out() -> None:
    subject = place(2)
    subject.sender.hold = asyncio.Event()
    subject.circuits.put("half-open", subject.egress("p0"))
    await subject.go(0.5)
    assert subject.checks.status().running == 1
    subject.policy.snapshot = place(2, proxies=[proxy("p0", status="inactive")]).policy.snapshot
    await subject.go(0.5)
    assert subject.checks.status().running == 0
    assert not subject.circuits.held["p0"].trial
    assert subject.checks.outcomes == {"untried": 1}


async def test_fault_of_ours_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = place()
    subject.sender.breaks = True
    subject.circuits.put("half-open", subject.egress("p0"))
    with caplog.at_level(logging.ERROR):
        await subject.go(0.1)
    assert "greeting of proxy p0 went wrong" in caplog.text
    assert not subject.circuits.held["p0"].trial
    subject.sender.breaks = False
    await subject.go(5)
    assert subject.circuits.held["p0"].state == "closed"


def with_health(subject: Scene, on_event: Callable[[str], None] = lambda _: None) -> Health:
    """The scene with the real circuits, by its simulated clock."""
    health = Health(subject.clock, random.Random(1), lambda event: on_event(event.kind))
    subject.checks = Checker(
        subject.policy, subject.sender, health, health.report, subject.clock, random.Random(1)
    )
    health.greets = True
    return health


def kill(subject: Scene, health: Health, egress: Egress) -> None:
    subject.sender.failures[egress.name] = REFUSED
    for _ in range(3):
        now = subject.clock.now
        said = Outcome("attempt", "192.0.2.1", REFUSED, now, now)
        health.report(egress, ("x.test", 1), "homes", said)


async def a_moment(subject: Scene) -> None:
    subject.checks.step()
    await settle()
    subject.clock.now += 0.25


async def test_a_member_that_died_is_used_again_soon_after_it_is_back() -> None:
    subject, kinds = place(3), list[str]()
    health = with_health(subject, kinds.append)
    dead, died = subject.egress("p1"), subject.clock.now
    kill(subject, health, dead)
    while subject.clock.now < died + 120:
        await a_moment(subject)
        assert not health.is_available(dead)
    back = subject.clock.now
    del subject.sender.failures["p1"]
    while not health.is_available(dead):
        await a_moment(subject)
    assert subject.clock.now - back <= 0.3 * (back - died)
    assert 5 <= len(subject.sender.sent) <= 20
    assert kinds[-2:] == ["half-open", "closed"]


@pytest.mark.parametrize("count", [5, 100])
async def test_dead_members_get_no_live_connection_and_one_greeting_a_second(count: int) -> None:
    subject = place(count)
    health = with_health(subject)
    dead = [subject.egress(f"p{number}") for number in range(count)]
    for egress in dead:
        kill(subject, health, egress)
    for _ in range(4 * 300):
        await a_moment(subject)
        assert not any(map(health.is_available, dead))
    assert len(subject.sender.sent) <= 300
    greeted = {name for _, name in subject.sender.sent}
    assert len(greeted) == count
