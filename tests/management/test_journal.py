"""What machines observe, on its way into the registry."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import RegistryDown
from egress_policy.management.journal import WAITING, JournalWriter, fingerprint
from egress_policy.model.proxy import Proxy
from egress_policy.registry.journal import Journal
from tests.helpers.management import hop, managed
from tests.registry.journal_contract import event, outcome, seen


async def test_rows_are_written_together_and_read_by_the_next_run(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        revision = management.in_force.stored.revision
        management.journal.add_events([event(1)])
        management.journal.add_events([event(2)])
        management.journal.add_observations([seen("192.0.2.1")])
        management.journal.put_tests([outcome("dc")])
        assert await management.journal.events() == []
        await management.journal.flush()
        assert await management.journal.events() == [event(1), event(2)]
        assert management.in_force.stored.revision == revision
    async with managed(tmp_path) as management:
        assert await management.journal.events() == [event(1), event(2)]
        assert await management.journal.observations() == [seen("192.0.2.1")]
        assert await management.journal.tests() == [outcome("dc")]
        assert management.journal.lost == 0


async def test_rows_are_written_by_themselves_soon(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        journal = JournalWriter(management.in_force, pause=0)
        journal.add_events([event(1)])
        while not await journal.events():
            await asyncio.sleep(0)
        journal.add_events([event(2)])
        while len(await journal.events()) < 2:
            await asyncio.sleep(0)


async def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        management.journal.add_events([event()])
        management.journal.put_tests([outcome("dc")])
    async with managed(tmp_path) as management:
        assert await management.journal.events() == [event()]
        assert await management.journal.tests() == [outcome("dc")]


async def test_without_a_registry_nothing_is_kept_and_nothing_lost(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="") as management:
        management.journal.add_events([event()])
        await management.journal.flush()
        assert await management.journal.events() == []
        assert management.journal.lost == 0


async def test_failing_database_costs_its_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Any:
        raise RegistryDown("The registry is out of order")

    async with managed(tmp_path) as management:
        journal = management.journal
        with monkeypatch.context() as broken:
            broken.setattr(Journal, "add_events", fail)
            broken.setattr(Journal, "events", fail)
            for _ in range(2):
                journal.add_events([event(1), event(2)])
                journal.put_tests([outcome("dc")])
                await journal.flush()
            assert await journal.events() == []
        assert journal.lost == 4
        assert await journal.tests() == [outcome("dc")]
        journal.add_events([event(3)])
        await journal.flush()
        assert await journal.events() == [event(3)]
        await management.proxies.create(hop())
    assert caplog.text.count("cannot be kept or read: The registry is out of order") == 1


async def test_oldest_rows_go_where_too_many_wait(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        management.journal.add_events([event(number) for number in range(WAITING)])
        management.journal.add_events([event(WAITING), event(WAITING + 1)])
        assert management.journal.lost == 2
        await management.journal.flush()
        kept = await management.journal.events()
        assert (len(kept), kept[0], kept[-1]) == (WAITING, event(2), event(WAITING + 1))


def test_fingerprint_is_about_the_machine_and_not_about_who_asks_it() -> None:
    fields: dict[str, Any] = {
        "name": "dc",
        "type": "http",
        "host": "h.example",
        "port": 3128,
        "family": "ipv4",
    }
    proxy = Proxy.model_validate(fields)
    assert fingerprint(proxy) == "710b79c8dfcd937ede77461efe39ee3e"
    same: dict[str, Any]
    for same in ({"username": "u"}, {"password": "p"}, {"notes": "n"}, {"status": "inactive"}):
        assert fingerprint(Proxy.model_validate({**fields, **same})) == fingerprint(proxy)
    others: list[dict[str, Any]] = [
        {"name": "b"},
        {"type": "https"},
        {"host": "g.example"},
        {"port": 1},
        {"family": "ipv6"},
    ]
    marks = {fingerprint(Proxy.model_validate({**fields, **other})) for other in others}
    assert len(marks | {fingerprint(proxy)}) == 6
