"""The live feed: what is kept, who is told, and what is counted."""

import asyncio
import json
from typing import Any

import pytest

from egress_policy.management.live import RING, LiveEvent, LiveFeed


def event(**fields: Any) -> LiveEvent:
    stated = {"at": 1.5, "flow_id": "f", "client": "192.0.2.9", "kind": "http"}
    return LiveEvent(**{**stated, "host": "origin.test", "port": 443, "use": "direct", **fields})


def published(feed: LiveFeed, count: int) -> list[LiveEvent]:
    made = [event(flow_id=str(number)) for number in range(count)]
    for one in made:
        feed.publish(one)
    return made


def test_events_are_numbered_and_the_latest_are_kept() -> None:
    feed = LiveFeed()
    made = published(feed, RING + 3)
    assert feed.since(0) == tuple(made[3:])
    assert feed.since(RING) == tuple(made[-3:])
    assert [one.seq for one in feed.since(RING)] == [RING + 1, RING + 2, RING + 3]
    assert feed.since(RING + 3) == ()


def test_number_of_another_run_gives_all_there_is() -> None:
    feed = LiveFeed()
    assert feed.since(7) == ()
    made = published(feed, 2)
    assert feed.since(900) == tuple(made)


async def test_watcher_gets_the_events_from_then_on() -> None:
    feed = LiveFeed()
    published(feed, 1)
    with feed.subscribe() as one, feed.subscribe() as other:
        made = published(feed, 2)
        assert [await anext(one), await anext(one)] == made
        assert await anext(other) == made[0]
        waiting = asyncio.create_task(anext(one))
        await asyncio.sleep(0)
        late = published(feed, 1)
        assert [await waiting] == late
    published(feed, 1)
    assert [await anext(other), await anext(other)] == [made[1], *late]  # and nothing behind


async def test_slow_watcher_loses_the_oldest_events_and_counts_them() -> None:
    feed = LiveFeed()
    with feed.subscribe(limit=3) as slow, feed.subscribe() as fast:
        made = published(feed, 5)
        assert [await anext(slow) for _ in range(3)] == made[2:]
        assert (slow.lost, fast.lost) == (2, 0)


async def test_all_that_waits_is_taken_at_once() -> None:
    feed = LiveFeed()
    with feed.subscribe() as watching:
        assert watching.take() == []
        made = published(feed, 3)
        assert await anext(watching) == made[0]
        assert watching.take() == made[1:]
        assert watching.take() == []


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    feed = LiveFeed()
    with feed.subscribe() as watching:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(watching)
        made = published(feed, 1)
        assert await anext(watching) == made[0]


async def test_closing_ends_the_iteration_behind_what_still_waits() -> None:
    feed = LiveFeed()
    with feed.subscribe() as watching, feed.subscribe() as idle:
        waiting = asyncio.create_task(anext(idle, None))
        await asyncio.sleep(0)
        made = published(feed, 2)
        feed.close()
        assert [one async for one in watching] == made
        assert await waiting == made[0]
        assert [one async for one in idle] == made[1:]


def test_totals_count_what_left_and_what_was_refused() -> None:
    feed = LiveFeed()
    feed.publish(event(unmatched=True))
    for _ in range(2):
        feed.publish(event(use="proxy", proxy="dc"))
    refused = {"code": "PROXY_UNREACHABLE", "reason": "connect_timeout"}
    feed.publish(event(use="proxy", proxy="dc", **refused))
    feed.publish(event(use="refuse", code="EGRESS_REFUSED", reason="rule"))
    totals = feed.totals
    assert (totals.flows, totals.unmatched) == (5, 1)
    assert totals.by_use == {"direct": 1, "proxy": 2, "refuse": 2}
    assert totals.by_proxy == {"dc": 2}
    assert totals.refusals == {
        ("PROXY_UNREACHABLE", "connect_timeout"): 1,
        ("EGRESS_REFUSED", "rule"): 1,
    }


def test_event_is_shown_as_plain_values_with_the_time_in_utc() -> None:
    shown = event(seq=4, reused=False).shown()
    assert json.loads(json.dumps(shown)) == shown
    assert list(shown)[:3] == ["seq", "at", "flow_id"]
    assert (shown["at"], shown["reused"], shown["status"]) == (
        "1970-01-01T00:00:01.500Z",
        False,
        None,
    )
