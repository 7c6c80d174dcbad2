"""The Overview tab in a real browser: what flows did, and how exits fare."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from tests.e2e.browser import browser_page, chromium
from tests.e2e.page import act, log_in, row, running, show

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
OVERVIEW = "**/management/overview?*"
NOTHING = [0] * 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


def exit_(name: str, **fields: Any) -> dict[str, Any]:
    """An exit of which nothing is known but what is given."""
    known = {"id": name, "state": "closed", "why": "", "success_rate": None, "failed": 0}
    counts = {"flows": 0, "refused": 0, "up": 0, "down": 0, "active": 0, "bytes": NOTHING}
    seen = {"address": None, "address_age_s": None, "last_used": None, "hop_ms": [None] * 60}
    return {"exit": name, **known, **counts, **seen, **fields}


def answer(*exits: dict[str, Any], series: dict[str, list[int]] | None = None) -> dict[str, Any]:
    """What the API answers, at noon, with these exits and flows a minute."""
    return {
        "now": {"per_second": 0, "active": 0},
        "minutes": [f"2026-11-29T11:{minute:02}:00Z" for minute in range(60)],
        "series": [{"exit": name, "flows": flows} for name, flows in (series or {}).items()],
        "refused": NOTHING,
        "reasons": [],
        "hop": {"p50_ms": None, "p95_ms": None},
        "bytes": {"up": 0, "down": 0},
        "exits": {"items": exits, "page": {"limit": 50, "offset": 0, "total": len(exits)}},
    }


async def answers(page: Page, found: list[dict[str, Any]]) -> None:
    """Let the page be answered with the last one of ``found``."""

    async def fulfil(route: Route) -> None:
        await route.fulfill(json=found[-1])

    await page.route(OVERVIEW, fulfil)


async def poll(page: Page) -> None:
    """Let the page ask again, with a clock that the test has."""
    async with page.expect_response(OVERVIEW):
        await page.clock.fast_forward(5000)
    await page.evaluate("() => new Promise(requestAnimationFrame)")


async def test_what_is_read_is_not_moved(browser: Browser, tmp_path: Path) -> None:
    """An exit that overtakes another keeps its row and its colour until a person sorts."""
    first = answer(
        exit_("one", flows=9),
        exit_("two", flows=5),
        series={"one": [*NOTHING[1:], 9], "two": [*NOTHING[1:], 5]},
    )
    then = answer(
        exit_("new", flows=80),
        exit_("two", flows=70),
        exit_("one", flows=9),
        series={"new": [*NOTHING[1:], 80], "two": [*NOTHING[1:], 70], "one": [*NOTHING[1:], 9]},
    )
    found = [first]
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.clock.install()
        await answers(page, found)
        await log_in(page, scene)
        await show(page, "overview")
        rows = page.locator("#exits-now tr[data-name]")
        legend = page.locator(".legend li")
        await expect(rows).to_contain_text(["one", "two"])
        await expect(legend).to_have_text(["one 9", "two 5", "Refused 0"])
        colours = (
            "(all) => Object.fromEntries(all.map((e) => [e.innerText, e.firstChild.className]))"
        )
        before = await legend.evaluate_all(colours)
        await page.locator(".drawing").hover(position={"x": 1, "y": 20})
        await expect(page.locator(".scale")).to_contain_text("11:00")
        await expect(legend).to_have_text(["one 0", "two 0", "Refused 0"])
        marked = "(row) => getSelection().selectAllChildren(row)"
        await rows.first.evaluate(marked)
        found.append(then)
        await poll(page)
        await expect(rows).to_contain_text(["one", "two"])
        await page.evaluate("getSelection().empty()")
        await poll(page)
        await expect(rows).to_contain_text(["one", "two", "new"])
        await expect(page.locator(".scale")).to_contain_text("11:00")
        await expect(row(page, "two")).to_contain_text("70")
        await page.mouse.move(0, 0)
        await expect(page.locator(".scale")).to_contain_text("Last hour")
        after = await legend.evaluate_all(colours)
        assert {name: after[name] for name in ("one 9",)} == {"one 9": before["one 9"]}
        assert len(set(after.values())) == 4
        await act(page, "Flows")
        await expect(rows).to_contain_text(["new", "two", "one"])
        head = page.get_by_role("columnheader", name="Flows")
        await expect(head.get_by_role("button")).to_be_focused()
        await expect(head).to_have_attribute("aria-sort", "ascending")


async def test_many_exits_have_colours_of_their_own_and_others_none(
    browser: Browser, tmp_path: Path
) -> None:
    """Eight have a colour each, whichever eight they are; direct and the others have theirs."""
    names = [f"exit-{number}" for number in range(12)]
    found: list[dict[str, Any]] = []
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.clock.install()
        await answers(page, found)
        for first in (0, 3, 4):
            flows = [*NOTHING[1:], 1]
            shown = dict.fromkeys([*names[first : first + 7], "direct", "other"], flows)
            found.append(answer(series=shown))
            if first == 0:
                await log_in(page, scene)
                await show(page, "overview")
            else:
                await poll(page)
            await expect(page.locator(".legend")).to_contain_text(names[first + 6])
            kinds = await page.locator(".drawing path").evaluate_all(
                "(all) => all.map((e) => e.getAttribute('class'))"
            )
            assert len(set(kinds)) == len(kinds) == 10
            assert kinds[-3:] == ["direct", "rest", "refusals"]
            assert all(re.fullmatch("series-[1-8]", kind) for kind in kinds[:-3])


async def test_drawings_show_what_the_numbers_are(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.goto(scene.url)
        found = await page.evaluate(
            """async () => {
              const { Bars, columns, line, roundUp } = await import("/static/js/charts.js");
              const { bytes, milliseconds } = await import("/static/js/units.js");
              const bars = new Bars("flows", String);
              bars.fill([0, 1, 2], [
                { name: "one", kind: "a", values: [1, 0, 3] },
                { name: "two", kind: "b", values: [3, 0, 0] }]);
              const path = (one) => one.querySelector("path").getAttribute("d");
              return {
                ends: [0, 1, 7, 11, 100, 101, 2500, 99_999].map(roundUp),
                bars: [...bars.drawing.querySelectorAll("path")].map((e) => e.getAttribute("d")),
                none: [line([], "x"), line([null, null], "x"), columns([0, 0], "x")].map(path),
                line: path(line([1, 2, null, 2], "x")),
                columns: path(columns([0, 1, 1e9], "x")),
                bytes: [0, 999, 1000, 1234, 99_999, 123e6, 5e20].map(bytes),
                times: [null, 0, 3.14, 1234.5].map(milliseconds),
              };
            }"""
        )
    assert found["ends"] == [1, 1, 8, 20, 100, 200, 3000, 100_000]
    # One is as high as it is much, and two stands on it.
    assert found["bars"] == ["M0.1 75h.8v25h-.8zM2.1 25h.8v75h-.8z", "M0.1 0h.8v75h-.8z"]
    assert found["none"] == ["", "", ""]
    assert found["line"] == "M0.5 10.5h.01L1.5 2M3.5 2h.01"
    assert found["columns"] == "M1.1 20v-1h.8V20zM2.1 20v-18h.8V20z"
    assert found["bytes"] == ["0 B", "999 B", "1 kB", "1.2 kB", "100 kB", "123 MB", "500,000 PB"]
    assert found["times"] == ["\u2013", "0 ms", "3.1 ms", "1,235 ms"]
