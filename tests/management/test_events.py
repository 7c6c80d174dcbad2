"""What happened to proxies: kept, bounded, in words, and found again after a restart."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from egress_policy.management.events import KEPT, Events
from egress_policy.management.journal import Rows
from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.model.settings import parse_settings
from egress_policy.policy.health import CircuitEvent
from egress_policy.sentence import Sentence
from tests.helpers.management import KEY, managed

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@dataclass
class Memory:
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add_events(self, rows: Rows) -> None:
        self.rows += map(dict, rows)

    async def events(self) -> list[dict[str, Any]]:
        return self.rows


@dataclass
class Day:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def later(self, **delta: Any) -> None:
        self.now += timedelta(**delta)


def local(moment: datetime, form: str = "%H:%M") -> str:
    return moment.astimezone().strftime(form)


def test_events_are_listed_in_words_the_newest_first() -> None:
    day = Day()
    events = Events(Memory(), day)
    events.add("opened", "home-1", "3 x connect_timeout")
    day.later(minutes=1)
    events.add("opened", "home-2", "3 x connect_refused", "homes")
    day.later(minutes=1)
    events.add("closed", "home-1")
    newest, *_ = events.list()
    assert (newest.at, newest.kind, newest.proxy) == (
        "2026-01-02T12:02:00.000Z",
        "closed",
        "home-1",
    )
    assert [event.proxy for event in events.list()] == ["home-1", "home-2", "home-1"]
    assert [event.text for event in events.list("home-1")] == [
        f"works again since {local(day.now)}",
        f"open since {local(NOON)}: 3 x connect_timeout",
    ]
    assert [event.kind for event in events.list("home-1", limit=1)] == ["closed"]
    assert events.list("home-2")[0].pool == "homes"
    assert events.list("nobody") == ()


@pytest.mark.parametrize(
    ("kind", "why", "text"),
    [
        ("reset", "", "closed by a person at {}"),
        ("limited", "it asked", "left alone since {}: it asked"),
        ("own-network", "IPv4", "our own network seems to be down since {}: IPv4"),
        ("own-network-up", "", "our own network works again since {}"),
        (
            "exit changed",
            "a stable exit is another",
            "exit changed at {}: a stable exit is another",
        ),
        ("new", "", "new at {}"),
        ("{why}", "{0}", "{why} at {}: {0}"),
    ],
)
def test_each_kind_has_its_words(kind: str, why: str, text: str) -> None:
    events = Events(Memory(), Day())
    events.add(kind, "exit", why)
    assert events.list()[0].text == text.replace("{}", local(NOON))


def test_changes_of_circuits_are_events_but_for_each_further_try() -> None:
    events = Events(Memory(), Day())
    egress = Egress(Proxy(name="exit", host="192.0.2.1"))
    kinds: tuple[Any, ...] = ("opened", "half-open", "closed")
    for kind in kinds:
        events.circuit(CircuitEvent(5.0, egress, kind, "3 x connect_refused"))
    events.circuit(CircuitEvent(5.0, egress, "opened", "a trial failed", again=True))
    events.circuit(CircuitEvent(5.0, None, "own-network", "IPv4"))
    found = [(event.kind, event.proxy) for event in events.list()]
    assert found == [("own-network", ""), ("closed", "exit"), ("opened", "exit")]


def test_another_day_is_named() -> None:
    day = Day()
    events = Events(Memory(), day)
    events.add("closed", "exit")
    day.later(days=2)
    (found,) = events.list()
    assert found.text == f"works again since {local(NOON, '%Y-%m-%d %H:%M')}"


async def test_the_oldest_go_first_and_nothing_of_them_is_kept() -> None:
    memory, day = Memory(), Day()
    events = Events(memory, day)
    events.add("opened", "first", "x")
    for number in range(KEPT):
        day.later(milliseconds=1)
        events.add("closed", f"p{number % 3}")
    assert len(events.list(limit=2 * KEPT)) == KEPT
    assert events.list("first") == ()
    assert set(events._by_proxy) == {"p0", "p1", "p2"}
    assert sum(map(len, events._by_proxy.values())) == KEPT
    await events.recall()
    assert len(events.list(limit=2 * KEPT)) == KEPT
    assert events.list("first") == ()


async def test_what_others_wrote_is_taken_in_once_and_in_order() -> None:
    memory, day = Memory(), Day()
    Events(memory, day).add("opened", "exit", "x")
    day.later(hours=1)
    events = Events(memory, day)
    events.add("closed", "exit")
    for _ in range(2):
        await events.recall()
        assert [event.kind for event in events.list()] == ["closed", "opened"]
    memory.rows[0]["at"] = "yesterday"
    events = Events(memory, day)
    await events.recall()
    assert "open since yesterday: x" in [event.text for event in events.list()]


async def test_events_outlive_the_process_in_the_registry(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        revision = management.in_force.stored.revision
        management.events.add("opened", "exit", "3 x connect_timeout")
        seen = management.events.list()
    async with managed(tmp_path) as management:
        await management.recall()
        assert management.events.list() == seen
        assert management.in_force.stored.revision == revision


async def test_a_registry_that_is_opened_later_is_read_too(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        management.events.add("closed", "exit")
        seen = management.events.list()
    async with managed(tmp_path, registry="") as management:
        assert management.events.list() == ()
        options = {"egress_registry": str(tmp_path / "egress.db"), "egress_hosts_file": ""}
        management.configure(parse_settings(options, {}, tmp_path), tmp_path, KEY)
        while management.events.list() != seen:
            await asyncio.sleep(0.01)


async def test_journal_that_cannot_be_read_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with managed(tmp_path) as management:
        monkeypatch.setattr(management.journal, "events", None)
        await management.recall()
    assert "cannot be read" in caplog.text


async def test_an_event_keeps_its_sentence_also_where_its_row_is_read_back() -> None:
    memory = Memory()
    events = Events(memory, Day())
    events.add("opened", "home", Sentence("strike", "{number} x {reason}", number=3, reason="no"))
    await events.recall()
    assert [type(value) for value in memory.rows[0].values()] == [str] * 5
    [event] = events.list()
    assert event.said is not None
    assert event.said["why"].code == "strike"
