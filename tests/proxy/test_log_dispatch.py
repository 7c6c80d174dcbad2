"""Events of the log that run here have the effects that mitmproxy's own functions give them."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import exceptions, hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.log import AddLogHook, LogEntry

from egress_policy.proxy import log_dispatch
from tests.helpers.clients import http_get
from tests.helpers.origin import Origin
from tests.helpers.scene import egress
from tests.proxy.test_dispatch import EACH, RECIPES, Recipe, Records, Tracebacks, World, logged

ENTRY = LogEntry("a line", "info")


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    yield
    log_dispatch.is_known.cache_clear()


def ran(world: World, event: hooks.Hook) -> tuple[object, ...]:
    """How an event ended, what was called, and what mitmproxy said of it."""
    end = ""
    with logged(Records()) as records:
        try:
            world.manager.trigger(event)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (ends are compared)
            end = repr(error)
    return end, world.trace, records


def both(recipes: tuple[Recipe, ...]) -> list[object]:
    found: list[object] = []
    for here in (False, True):
        world = World("add_log", recipes)
        if here:
            log_dispatch.take_over(world.manager)
            assert "trigger" in vars(world.manager)
        found.append(ran(world, AddLogHook(ENTRY)))
    return found


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
async def test_the_event_has_the_same_effects() -> None:
    theirs, ours = both(EACH)
    assert ours == theirs


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@given(st.lists(RECIPES, max_size=6).map(tuple))
def test_any_mix_of_addons_has_the_same_effects(recipes: tuple[Recipe, ...]) -> None:
    theirs, ours = both(recipes)
    assert ours == theirs


async def test_the_traceback_of_an_error_is_the_one_that_mitmproxy_shows() -> None:
    shown: list[tuple[object, ...]] = []
    for here in (False, True):
        world = World("add_log", (Recipe("none", nesting="list", nested=(Recipe("raises"),)),))
        if here:
            log_dispatch.take_over(world.manager)
        with logged(Tracebacks()) as records:
            world.manager.trigger(AddLogHook(ENTRY))
        shown += records
    assert shown[0] == shown[1]
    assert "in invoke_addon_sync" not in str(shown)


async def test_other_events_go_to_mitmproxys_function_or_what_replaced_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World("configure", ())
    seen: list[hooks.Hook] = []
    log_dispatch.take_over(world.manager)
    monkeypatch.setattr(AddonManager, "trigger", lambda self, event: seen.append(event))
    for event in (hooks.ConfigureHook({"mode"}), AddLogHook(ENTRY)):
        world.manager.trigger(event)
    assert [event.name for event in seen] == ["configure", "add_log"]


@pytest.mark.parametrize("name", ["invoke_addon_sync", "_iter_hooks"])
async def test_a_function_that_an_addon_replaces_runs_from_then_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World("add_log", (Recipe("returns"),))
    log_dispatch.take_over(world.manager)
    own, seen = getattr(AddonManager, name), []

    def replaced(self: AddonManager, addon: object, event: hooks.Hook) -> object:
        seen.append(event.name)
        return own(self, addon, event)

    monkeypatch.setattr(AddonManager, name, replaced)
    world.manager.trigger(AddLogHook(ENTRY))
    assert (seen, len(world.trace)) == (["add_log"], 1)


async def test_what_another_addon_has_put_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = World("add_log", ()).manager
    manager.trigger = theirs = lambda event: None  # type: ignore[method-assign]
    log_dispatch.take_over(manager)
    assert manager.trigger is theirs
    log_dispatch.give_back(manager)
    assert manager.trigger is theirs
    monkeypatch.setitem(log_dispatch._COPIED, "trigger", "another")
    log_dispatch.take_over(other := World("add_log", ()).manager)
    assert "trigger" not in vars(other)


async def test_lines_of_the_log_run_here_while_the_guard_stands(tmp_path: Path) -> None:
    class Lines:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def add_log(self, entry: LogEntry) -> None:
            self.seen.append(entry.msg)
            raise exceptions.AddonHalt

    lines = Lines()
    async with Origin() as origin, egress(tmp_path, default="direct") as mitm:
        manager = mitm.master.addons
        assert "trigger" in vars(manager)
        manager.chain.append(lines)
        assert (await http_get(mitm.port, origin.url())).status == 200
        logging.getLogger("mitmproxy.test").warning("a line of an addon")
        await mitm.wait_for_log("a line of an addon")
        guard = manager.get("egressguard")
    assert any("client connect" in line for line in lines.seen)
    assert guard is not None
    assert "trigger" not in vars(manager)
