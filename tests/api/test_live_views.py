"""The live view: what one who watches gets, in how many pieces, and how many may watch."""

import json
from typing import Any

import pytest

from egress_policy.api import live_views as module
from egress_policy.api.live_views import VIEWS, LiveViews
from egress_policy.api.problems import Problem
from egress_policy.management.live import RING, LiveEvent, LiveFeed


def publish(feed: LiveFeed, *rules: str, path: str = "/") -> None:
    common: dict[str, Any] = {"at": 0.0, "flow_id": "f", "client": "127.0.0.1", "kind": "http"}
    common["path"] = path
    for rule in rules:
        feed.publish(LiveEvent(**common, host="x.test", port=443, use="direct", rule=rule))


def shown(piece: bytes) -> list[str]:
    """The rules of the events in a piece; comments and other events as they are."""
    found = []
    for block in piece.decode().strip().split("\n\n"):
        *_, last = block.split("\n")
        data = json.loads(last.removeprefix("data: ")) if last.startswith("data: ") else {}
        found.append(data.get("rule", block))
    return found


async def test_view_has_what_was_and_in_one_piece_what_came_meanwhile() -> None:
    feed = LiveFeed()
    views = LiveViews(feed)
    publish(feed, "one", "two", "three")
    view = await views.open(1)
    publish(feed, "four")
    assert shown(await anext(view)) == ["two", "three", ": open"]
    assert shown(await anext(view)) == ["four"]
    publish(feed, "five", "six")
    assert shown(await anext(view)) == ["five", "six"]
    await view.aclose()


async def test_slow_view_reports_what_it_lost() -> None:
    feed = LiveFeed()
    view = await LiveViews(feed).open(0)
    assert shown(await anext(view)) == [": open"]
    publish(feed, *map(str, range(RING + 3)))
    lost, first, *_ = shown(await anext(view))
    assert (lost, first) == ('event: lost\ndata: {"count": 3}', "3")
    publish(feed, "next")
    assert shown(await anext(view)) == ["next"]
    await view.aclose()


async def test_view_says_something_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE", 0)
    feed = LiveFeed()
    view = await LiveViews(feed).open(0)
    await anext(view)
    assert await anext(view) == b": still here\n\n"
    monkeypatch.setattr(module, "KEEP_ALIVE", 10)
    publish(feed, "one")
    assert shown(await anext(view)) == ["one"]
    await view.aclose()


async def test_view_ends_with_the_feed() -> None:
    feed = LiveFeed()
    view = await LiveViews(feed).open(0)
    await anext(view)
    feed.close()
    assert [piece async for piece in view] == []


async def test_views_are_bounded_and_one_that_is_closed_makes_room() -> None:
    views = LiveViews(LiveFeed())
    open_ = [await views.open(0) for _ in range(VIEWS)]
    with pytest.raises(Problem) as caught:
        await views.open(0)
    assert (caught.value.status, caught.value.code) == (429, "TOO_MANY_VIEWS")
    await open_[3].aclose()
    open_[3] = await views.open(0)
    for view in open_:
        await view.aclose()


async def test_event_is_written_once_for_all_and_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = 0
    frame = module._frame

    def counted(*args: Any) -> bytes:
        nonlocal written
        written += 1
        return frame(*args)

    monkeypatch.setattr(module, "_frame", counted)
    feed = LiveFeed()
    views = LiveViews(feed)
    publish(feed, "one", "two")
    open_ = [await views.open(0) for _ in range(5)]
    pieces = {await anext(view) for view in open_}
    assert len(pieces) == 1
    assert written == 2
    publish(feed, *map(str, range(2 * RING)))
    for view in open_:
        await anext(view)
        await view.aclose()
    assert len(views._frames[True]) == RING


async def test_queries_are_left_out_for_those_who_ask_for_that() -> None:
    feed = LiveFeed()
    views = LiveViews(feed)
    publish(feed, "one", path="/a?token=hush")
    whole, without = await views.open(0), await views.open(0, queries=False)
    publish(feed, "two", path="/b?token=hush&c=?")
    for view, paths in ((whole, ["/a?token=hush", "/b?token=hush&c=?"]), (without, ["/a", "/b"])):
        pieces = (await anext(view) + await anext(view)).decode()
        data = [line[6:] for line in pieces.splitlines() if line.startswith("data: ")]
        assert [json.loads(one)["path"] for one in data] == paths
        assert ("hush" in pieces) == (view is whole)
        await view.aclose()
