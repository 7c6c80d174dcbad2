"""Which part of memory the collector of cycles still visits, and when."""

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from egress_policy.collector import QuietCollector
from egress_policy.management.in_force import Inputs, Made
from tests.helpers.management import managed
from tests.helpers.scene import still

with_full_collections = pytest.mark.skipif(
    gc.get_threshold()[2] == 0, reason="this Python collects in parts"
)


@pytest.fixture(autouse=True)
def _nothing_frozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("registry", ["", None])
async def test_start_takes_memory_from_the_collector_and_an_edit_takes_none(
    tmp_path: Path, registry: str | None
) -> None:
    entry = {"name": "one", "host": "192.0.2.1"}
    async with managed(
        tmp_path, registry=registry, policy={"proxies": [entry]}, collector=QuietCollector()
    ) as management:
        taken = gc.get_freeze_count()
        assert taken > 1000  # what was imported until now is more
        file = tmp_path / "policy.yaml"
        file.write_text(json.dumps({"version": 1, "proxies": [{**entry, "name": "two"}]}))
        still(file)
        assert await management.upkeep.reload() == ""
        assert "two" in management.router.snapshot.proxies
        assert gc.get_freeze_count() <= taken


def test_what_fails_leaves_everything_to_the_collector() -> None:
    def fail() -> None:
        with QuietCollector().while_opening():
            assert not gc.isenabled()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@with_full_collections
async def test_full_collections_wait_for_an_edit_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, during = gc.get_threshold(), []
    async with managed(tmp_path, registry="", policy={}, collector=QuietCollector()) as management:
        source = management.in_force.opened.file
        read = source.read

        def noted_read() -> object:
            during.append(gc.get_threshold())
            return read()

        monkeypatch.setattr(source, "read", noted_read)
        assert await management.upkeep.reload() == ""
        source.path = tmp_path / "away"
        assert "away" in await management.upkeep.reload()
    assert [(*found[:2], found[2] > 1000) for found in during] == [(*before[:2], True)] * 2
    assert gc.get_threshold() == before


@with_full_collections
async def test_full_collections_wait_for_a_change_of_the_registry(tmp_path: Path) -> None:
    before = gc.get_threshold()
    during: list[int] = []
    async with managed(tmp_path, collector=QuietCollector()) as management:
        make = management.in_force.make

        def noted_make(inputs: Inputs) -> Made:
            during.append(gc.get_threshold()[2])
            return make(inputs)

        management.in_force.make = noted_make  # type: ignore[method-assign]
        await management.upkeep.change(lambda _: during.append(gc.get_threshold()[2]))
        assert management.in_force.registry
        with management.in_force.registry.edit() as edit:  # as by another node
            edit.proxies.create({"name": "one", "host": "192.0.2.1"})
            taken = asyncio.Event()
            management.in_force.on_change = taken.set
        await taken.wait()
        assert "one" in management.router.snapshot.proxies
    assert len(during) == 3
    assert min(during) > 1000
    assert gc.get_threshold() == before


@with_full_collections
async def test_full_collections_wait_no_longer_than_the_limit() -> None:
    before = gc.get_threshold()
    with QuietCollector(limit=0).while_editing():
        with QuietCollector().while_editing():
            pass
        assert gc.get_threshold() != before
        async with asyncio.timeout(5):
            while gc.get_threshold() != before:
                await asyncio.sleep(0)
    assert gc.get_threshold() == before
