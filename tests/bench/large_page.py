"""`python -m tests.bench.large_page`: the page with 5,000 proxies, in Chromium before mitmdump.

First paint: from the start of the navigation until the rows are painted. A filter: from a choice,
or the last key of a search, until its rows are painted. Memory: the page's heap as the engine
counts it after a collection, and the private memory of its process. Each figure has its aim; one
that is missed ends nothing.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from playwright.async_api import CDPSession, Page

from tests.bench.large_registry import Figure
from tests.e2e.browser import browser_page, chromium
from tests.e2e.page import PageServer, act, log_in, running
from tests.helpers.ports import free_port

PROXIES = 5_000
_TIMES = 10
_FIRST, _FILTER, _MEMORY = 1000, 200, 150
_FAMILIES = ("", "", "?family=ipv4", "?family=ipv6")
_PAINTED = """() => new Promise((done) => {
  const look = () => {
    if (!document.querySelector("tr[data-name]")) return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  };
  look();
})"""
"""The time since the navigation began at which rows are painted."""
_FILTERED = """([selector, value, count]) => new Promise((done) => {
  const control = document.querySelector(selector);
  const began = performance.now();
  const look = () => {
    const rows = [...document.querySelectorAll("tr[data-name]")];
    if (rows.length !== count) return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
  };
  control.value = value;
  control.dispatchEvent(new Event(control.type === "search" ? "input" : "change"));
  look();
})"""


async def measure() -> AsyncIterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        async with running(Path(name)) as scene, chromium() as browser:
            await _fill(scene)
            async with browser_page(browser, 1400) as page:
                devtools = await page.context.new_cdp_session(page)
                await log_in(page, scene)
                yield Figure("first paint of the rows", await _first_paint(page), "ms", _FIRST)
                for what, selector, value, count in (
                    ("a search that finds one", "#search", "p04999", 1),
                    ("a filter by tag that finds 10", "[name=tag]", "rare", 10),
                    ("a filter by status that finds nothing", "[name=status]", "inactive", 0),
                ):
                    ms = await _filter(page, selector, value, count)
                    yield Figure(what, ms, "ms", _FILTER)
                async for figure in _memory(page, devtools, "50 rows shown"):
                    yield figure
                await page.get_by_label("Select all on this page").check()
                await act(page, f"Select all {PROXIES:,} found")
                async for figure in _memory(page, devtools, "all selected"):
                    yield figure
                await act(page, "Test all")
                done = page.get_by_text(f"{PROXIES:,} tested: 0 good, {PROXIES:,} failed")
                await done.wait_for(timeout=600_000)
                async for figure in _memory(page, devtools, "all tested"):
                    yield figure


async def _fill(scene: PageServer) -> None:
    """Nothing listens at their port, so that each is tested at once. Ten have a tag."""
    port = free_port()
    items = [
        {
            "name": f"p{number:05}",
            "type": "socks5",
            "host": f"127.{number >> 8}.{number & 255}.1",
            "port": port,
            "region": f"r{number % 20}",
            "tags": ["rare"] if number % 500 == 0 else ["common"],
        }
        for number in range(PROXIES)
    ]
    await scene.ask("POST", "/proxies/import", items=items)


async def _first_paint(page: Page) -> float:
    found: list[float] = []
    for _ in range(_TIMES):
        await page.reload(wait_until="commit")
        found.append(await page.evaluate(_PAINTED))
    return median(found)


async def _filter(page: Page, selector: str, value: str, count: int) -> float:
    found: list[float] = []
    for _ in range(_TIMES):
        found.append(await page.evaluate(_FILTERED, [selector, value, count]))
        await page.evaluate(_FILTERED, [selector, "", 50])
    return median(found)


async def _memory(page: Page, devtools: CDPSession, when: str) -> AsyncIterator[Figure]:
    await devtools.send("HeapProfiler.collectGarbage")
    usage = await devtools.send("Runtime.getHeapUsage")
    yield Figure(f"heap, {when}", usage["usedSize"] / 1e6, "MB")
    process = await _renderer(page)
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3
    yield Figure(f"private memory, {when}", private, "MB", _MEMORY)


async def _renderer(page: Page) -> int:
    """The process that shows the page."""
    browser = page.context.browser
    assert browser
    devtools = await browser.new_browser_cdp_session()
    info = await devtools.send("SystemInfo.getProcessInfo")
    await devtools.detach()
    processes = [one for one in info["processInfo"] if one["type"] == "renderer"]
    return int(max(processes, key=lambda one: one["cpuTime"])["id"])


async def main() -> None:
    async for figure in measure():
        print(figure, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
