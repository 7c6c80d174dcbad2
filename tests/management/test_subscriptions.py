"""Subscriptions as faces ask for them, and as they are fetched in the background."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from egress_policy.client.fetch import FetchFailed
from egress_policy.errors import InUse, NotFound, RegistryUnavailable
from egress_policy.management.management import Management
from egress_policy.management.subscriptions import Subscriptions
from tests.helpers.management import hop, managed

A, B = "socks5://192.0.2.1:1080#a", "socks5://192.0.2.2:1080#b"
SELLER = {"name": "seller", "url": "https://list.example/p?token=s3cret", "via": "direct"}
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Web:
    """Stands for the network: what is behind the URL. ``asked`` are the URLs and ways."""

    def __init__(self) -> None:
        self.text = A
        self.problem = ""
        self.asked: list[tuple[str, str]] = []
        self.arrived, self.release = asyncio.Event(), asyncio.Event()
        self.release.set()

    async def fetch(self, url: str, via: str) -> bytes:
        self.asked.append((url, via))
        self.arrived.set()
        await self.release.wait()
        if self.problem:
            raise FetchFailed(self.problem)
        return self.text.encode()


class Forgetful:
    """Keeps nothing."""

    def put_fetches(self, rows: Any) -> None:
        pass

    async def fetches(self) -> list[dict[str, Any]]:
        return []


class Place:
    def __init__(self, management: Management) -> None:
        self.management, self.web, self.now = management, Web(), NOON
        self.subscriptions = self.another()

    def another(self) -> Subscriptions:
        """The subscriptions as another process has them."""
        management = self.management
        return Subscriptions(management.upkeep, self.web, management.journal, lambda: self.now)

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.management.proxies.list().items]

    async def later(self, **span: float) -> None:
        self.now += timedelta(**span)
        await self.subscriptions.fetch_due()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with managed(tmp_path, registry=":memory:") as management:
        yield Place(management)


async def test_preview_says_what_a_fetch_would_change_and_keeps_nothing(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    report = await place.subscriptions.preview("seller")
    assert (report.dry_run, report.created) == (True, 1)
    assert [(one.kind, one.name) for one in report.changes] == [("created", "a")]
    assert place.names == []
    assert place.subscriptions.show("seller").last is None
    taken = await place.subscriptions.refresh("seller")
    assert (taken.dry_run, taken.created, taken.changes) == (False, 1, report.changes)
    assert place.names == ["a"]
    assert place.management.proxies.show("a").subscription == "seller"
    assert place.web.asked == [(SELLER["url"], "direct")] * 2


async def test_view_shows_where_the_list_is_and_no_secret(place: Place) -> None:
    await place.subscriptions.create({**SELLER, "tags": ["EU"], "every_hours": 6})
    await place.subscriptions.refresh("seller")
    shown = place.subscriptions.show("seller")
    assert "s3cret" not in shown.model_dump_json()
    assert (shown.place, shown.url.set, shown.tags) == ("https://list.example/", True, ("eu",))
    assert (shown.proxies, shown.due_at) == (1, "2026-01-02T18:00:00.000Z")
    assert shown.last
    assert (shown.last.ok, shown.last.at, shown.last.created) == (
        *(True, "2026-01-02T12:00:00.000Z", 1),
    )


async def test_failure_changes_nothing_and_is_kept(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    await place.subscriptions.refresh("seller")
    place.web.problem = "The list cannot be had: it answered 404"
    with pytest.raises(FetchFailed, match="404"):
        await place.subscriptions.refresh("seller")
    place.web.problem, place.web.text = "", "<html>moved</html>"
    with pytest.raises(FetchFailed, match="no proxy that can be used"):
        await place.subscriptions.refresh("seller")
    assert place.names == ["a"]
    last = place.subscriptions.show("seller").last
    assert last
    assert (last.ok, "no proxy that can be used" in last.detail) == (False, True)


async def test_text_that_is_none_is_a_failure(place: Place) -> None:
    class Binary(Web):
        async def fetch(self, url: str, via: str) -> bytes:
            return b"\xff\xfe"

    place.web = Binary()
    subscriptions = place.another()
    await subscriptions.create(SELLER)
    with pytest.raises(FetchFailed, match="not a UTF-8 text"):
        await subscriptions.refresh("seller")


async def test_proxy_that_is_used_outlives_its_list_entry(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    place.web.text = f"{A}\n{B}"
    await place.subscriptions.refresh("seller")
    await place.management.rules.create({"use": "a"})
    place.web.text = "socks5://192.0.2.3:1080#c"
    report = await place.subscriptions.refresh("seller")
    assert (report.created, report.removed, report.kept) == (1, 1, 1)
    assert place.names == ["a", "c"]
    with pytest.raises(InUse):
        await place.management.proxies.delete("a")


async def test_first_fetch_is_that_of_a_person_and_later_ones_come_by_themselves(
    place: Place,
) -> None:
    await place.subscriptions.create({**SELLER, "every_hours": 6})
    await place.later(days=3)
    assert place.web.asked == []
    await place.subscriptions.refresh("seller")
    place.web.text = f"{A}\n{B}"
    await place.later(hours=5, minutes=59)
    assert place.names == ["a"]
    await place.later(minutes=1)
    assert place.names == ["a", "b"]
    await place.later(minutes=1)
    assert len(place.web.asked) == 2


async def test_list_that_was_taken_is_due_though_nobody_knows_when_it_was(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    await place.subscriptions.refresh("seller")
    other = Subscriptions(place.management.upkeep, place.web, Forgetful(), lambda: NOON)
    await other.recall()
    assert other.show("seller").due_at == "2026-01-02T12:00:00.000Z"
    await other.fetch_due()
    await other.fetch_due()
    assert len(place.web.asked) == 2


@pytest.mark.parametrize("fields", [{"every_hours": 0}, {"status": "inactive"}])
async def test_list_that_is_for_persons_alone_is_not_fetched_by_itself(
    place: Place, fields: dict[str, object]
) -> None:
    await place.subscriptions.create({**SELLER, **fields})
    await place.subscriptions.refresh("seller")
    await place.later(days=40)
    assert len(place.web.asked) == 1
    assert place.subscriptions.show("seller").due_at is None


async def test_failed_fetch_is_tried_again_within_an_hour(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    await place.subscriptions.refresh("seller")
    place.web.problem = "The list cannot be had"
    await place.later(hours=24)
    assert len(place.web.asked) == 2
    await place.later(minutes=59)
    assert len(place.web.asked) == 2
    place.web.problem = ""
    await place.later(minutes=1)
    assert len(place.web.asked) == 3
    assert place.subscriptions.show("seller").due_at == "2026-01-04T13:00:00.000Z"


async def test_clock_that_is_set_back_does_not_keep_a_list_from_being_fetched(
    place: Place,
) -> None:
    await place.subscriptions.create(SELLER)
    await place.subscriptions.refresh("seller")
    await place.later(days=-300)
    assert len(place.web.asked) == 2


async def test_fetch_of_another_node_counts(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    await place.subscriptions.refresh("seller")
    place.now += timedelta(hours=24)
    other = place.another()
    await other.recall()
    await other.refresh("seller")
    await place.management.journal.flush()
    await place.subscriptions.fetch_due()
    assert len(place.web.asked) == 2
    again = place.another()
    await place.management.journal.flush()
    await again.recall()
    assert again.show("seller").last == other.show("seller").last


@pytest.mark.parametrize("at", ["soon", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_time_that_was_edited_by_hand_makes_a_list_due(place: Place, at: str) -> None:
    made = await place.subscriptions.create({**SELLER, "every_hours": 1})
    row = {"subscription": made.id, "at": at, "result": json.dumps({"ok": True})}
    place.management.journal.put_fetches([row])
    await place.management.journal.flush()
    await place.subscriptions.recall()
    await place.subscriptions.fetch_due()
    assert len(place.web.asked) == 1


async def test_row_that_was_edited_by_hand_is_passed_over(place: Place) -> None:
    made = await place.subscriptions.create(SELLER)
    rows = [
        {"subscription": made.id, "at": "2026", "result": "[]"},
        {"subscription": "gone", "at": "2026", "result": "{"},
    ]
    place.management.journal.put_fetches(rows)
    await place.management.journal.flush()
    await place.subscriptions.recall()
    assert place.subscriptions.show("seller").last is None
    row = {"subscription": made.id, "at": "soon", "result": json.dumps({"ok": True})}
    place.management.journal.put_fetches([row])
    await place.management.journal.flush()
    await place.subscriptions.recall()
    await place.subscriptions.fetch_due()
    assert len(place.web.asked) == 1


async def test_subscription_that_is_edited_meanwhile_is_not_taken(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    place.web.release.clear()
    fetching = asyncio.create_task(place.subscriptions.refresh("seller"))
    await place.web.arrived.wait()
    await place.subscriptions.update("seller", {"tags": ["eu"]})
    place.web.release.set()
    with pytest.raises(FetchFailed, match="changed meanwhile"):
        await fetching
    assert place.names == []


async def test_two_fetches_of_one_list_come_one_after_the_other(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    place.web.release.clear()
    both = [asyncio.create_task(place.subscriptions.refresh("seller")) for _ in range(2)]
    await place.web.arrived.wait()
    assert len(place.web.asked) == 1
    place.web.release.set()
    reports = await asyncio.gather(*both)
    assert sorted((one.created, one.unchanged) for one in reports) == [(0, 1), (1, 0)]


async def test_way_to_a_list_is_kept_though_no_longer_listed(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    place.web.text = f"{A}\n{B}"
    await place.subscriptions.refresh("seller")
    await place.subscriptions.update("seller", {"via": "a"})
    place.web.text = B
    report = await place.subscriptions.refresh("seller")
    assert (report.kept, place.names) == (1, ["a", "b"])
    assert place.web.asked[-1] == (SELLER["url"], "a")


async def test_deleted_subscription_leaves_its_proxies(place: Place) -> None:
    await place.subscriptions.create(SELLER)
    await place.subscriptions.refresh("seller")
    await place.subscriptions.delete("seller")
    assert place.management.proxies.show("a").subscription == ""
    with pytest.raises(NotFound):
        await place.subscriptions.refresh("seller")
    await place.later(days=3)
    assert len(place.web.asked) == 1


async def test_without_a_registry_there_is_no_subscription(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="") as management:
        assert management.subscriptions.list().items == ()
        await management.subscriptions.fetch_due()
        with pytest.raises(RegistryUnavailable):
            await management.subscriptions.create(SELLER)


async def test_log_says_what_came_of_a_fetch_and_no_url(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await place.management.proxies.create(hop("one"))
    await place.subscriptions.create(SELLER)
    await place.subscriptions.refresh("seller")
    await place.later(hours=24)
    place.web.problem = "The list cannot be had"
    await place.later(hours=24)
    said = [record.getMessage() for record in caplog.records if "seller" in record.getMessage()]
    assert said == [
        "Egress: subscription 'seller': 0 created, 0 updated, 0 removed, 0 kept, 0 failed",
        "Egress: subscription 'seller' was not taken: The list cannot be had",
    ]
    assert "s3cret" not in caplog.text


async def test_fetch_that_goes_wrong_keeps_no_other_list_from_being_fetched(place: Place) -> None:
    for name in ("broken", "seller"):
        url = f"https://{name}.example/"
        await place.subscriptions.create({**SELLER, "name": name, "url": url, "every_hours": 24})
        await place.subscriptions.refresh(name)
    fetch, asked = place.web.fetch, place.web.asked

    async def fails(url: str, via: str) -> bytes:
        found = await fetch(url, via)
        if "broken" in url:
            raise RuntimeError
        return found

    place.web.fetch = fails  # type: ignore[method-assign]
    asked.clear()
    await place.later(hours=25)
    assert [url for url, _ in asked] == ["https://broken.example/", "https://seller.example/"]
    last = {one.name: one.last for one in place.subscriptions.list().items}
    assert [name for name, one in last.items() if one and one.ok] == ["seller"]
    await place.later(minutes=5)
    assert len(asked) == 2
