"""The Overview tab in a real browser: what flows did, and how exits fare."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import act, log_in, row, running, show
from tests.e2e.programs import PASSWORD, USERNAME, microsocks, nginx, squid
from tests.helpers.clients import http_get
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy

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


async def test_traffic_is_seen_by_exit_as_it_flows(browser: Browser, tmp_path: Path) -> None:
    """Through real proxies; what is refused is told apart, and the page follows by itself."""
    account = {"username": USERNAME, "password": PASSWORD}
    socks, forward = microsocks(tmp_path), squid(tmp_path, hosts={"s.test": "127.0.0.1"})
    origin = nginx(tmp_path)
    async with origin, socks, forward, running(tmp_path) as scene:

        async def ask(host: str, times: int, status: int = 200) -> None:
            for _ in range(times):
                found = await http_get(scene.mitm.port, f"http://{host}:{origin.port}/")
                assert found.status == status

        await scene.make("socks", host="127.0.0.1", port=socks.port, **account)
        await scene.make("squid", type="http", host="127.0.0.1", port=forward.port, **account)
        await scene.make("dead", host="127.0.0.1", port=1)
        hosts = {"socks": "127.0.0.1", "squid": "s.test", "dead": "d.test", "refuse": "r.test"}
        for use, host in hosts.items():
            await scene.ask("POST", "/rules", hosts=[host], use=use)
        seen = [{"proxy": "socks", "address": "2001:db8::7"}]
        await scene.ask("POST", "/exits/observations", observations=seen)
        async with browser_page(browser) as page:
            await page.goto(scene.url)
            await page.get_by_label("Token").fill(scene.token)
            await act(page, "Log in")
            main = page.get_by_role("main")
            await expect(main).to_contain_text("No traffic in the last hour")
            await expect(page.locator("#tab-overview")).to_have_attribute("aria-selected", "true")
            await ask("127.0.0.1", 3)
            await ask("s.test", 2)
            await ask("d.test", 1, 503)
            await ask("r.test", 2, 503)
            legend = page.locator(".legend li")
            await expect(legend).to_have_text(["socks 3", "squid 2", "Refused 3"])
            await expect(main).not_to_contain_text("No traffic in the last hour")
            numbers = page.locator(".numbers")
            await expect(numbers).to_contain_text(re.compile("Flows, last hour8.*Refused.*337.5%"))
            await expect(numbers).to_contain_text(re.compile(r"median[\d.]+ ms95% within .* ms"))
            reasons = page.locator(".ranks li")
            await expect(reasons.first).to_contain_text("A rule says so2EGRESS_REFUSED")
            await expect(reasons.last).to_contain_text("refused1PROXY_UNREACHABLE")
            row_ = row(page, "socks")
            await expect(row_).to_contain_text(
                re.compile(r"Usable100%3[\d.]+ ms.* up, .* down.*2001:db8::7")
            )
            await expect(row_.locator("svg.spark")).to_have_count(2)
            await expect(row(page, "dead")).to_contain_text(re.compile("0%1 attempt failed01"))
            await expect(row(page, "direct")).to_contain_text("Not used")
            await page.get_by_label("Search").fill("squ")
            await expect(page.locator("tr[data-name]")).to_have_count(1)
            await ask("s.test", 4)
            await expect(legend).to_have_text(["squid 6", "socks 3", "Refused 3"])
            await expect(row(page, "squid")).to_contain_text(re.compile("100%6"))
            await page.get_by_text("Show as a table").click()
            minutes = page.get_by_role("table", name="Last hour").locator("tbody tr")
            await expect(minutes).to_have_count(60)
            counted = await minutes.locator("td").all_inner_texts()
            assert sum(map(int, counted)) == 12
            await page.get_by_label("Search").fill("")
            await page.get_by_role("link", name="dead").click()
            await expect(page.locator("#tab-live")).to_have_attribute("aria-selected", "true")
            await expect(page.locator("#flows tbody tr")).to_have_count(1)
            await expect(page.locator("#flows tbody tr")).to_contain_text("connect_refused")
            await page.get_by_role("button", name="Egress: dead").click()
            await expect(page.locator("#flows tbody tr")).to_have_count(12)


async def test_first_steps_lead_to_where_a_proxy_is_added(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await show(page, "overview")
        await act(page, "Add proxy")
        await expect(page.locator("#tab-proxies")).to_have_attribute("aria-selected", "true")
        await act(page, "Add proxy")
        await expect(page.get_by_role("dialog")).to_be_visible()


async def test_everybody_can_use_it(browser: Browser, tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        name = "exit" + "-long" * 15
        await scene.make("exit", host="127.0.0.1", port=proxy.port)
        await scene.make(name, host="127.0.0.1", port=1)
        await scene.ask("POST", "/rules", hosts=["d.test"], use=name)
        await scene.ask("POST", "/rules", hosts=["127.0.0.1"], use="exit")
        seen = [{"proxy": "exit", "address": "2001:db8:1:2:3:4:5:6"}]
        await scene.ask("POST", "/exits/observations", observations=seen)
        for host in (f"127.0.0.1:{origin.port}", f"127.0.0.1:{origin.port}", "d.test"):
            await http_get(scene.mitm.port, f"http://{host}/")
        for width in (1400, 800, 380):
            async with browser_page(browser, width) as page:
                await log_in(page, scene)
                await show(page, "overview")
                await expect(page.locator(".legend")).to_contain_text("exit 2")
                for theme in ("light", "dark"):
                    await page.locator("#theme").select_option(theme)
                    assert await faults(page) == [], theme
                    await keep(page, f"overview-{width}-{theme}")
                summary = page.locator(".chart summary")
                await page.keyboard.press("Tab")
                await summary.focus()
                await page.keyboard.press("Enter")
                minutes = page.get_by_role("region", name="Last hour")
                await expect(minutes.locator("tbody tr")).to_have_count(60)
                await page.keyboard.press("Tab")
                await expect(minutes).to_be_focused()
                assert await faults(page) == []
                await keep(page, f"overview-table-{width}")
                await page.keyboard.press("Tab")
                await expect(page.get_by_label("Search")).to_be_focused()
                await page.keyboard.press("Tab")
                await page.keyboard.press("Tab")
                await page.keyboard.press("Enter")
                head = page.get_by_role("columnheader", name="Exit", exact=True)
                await expect(head).to_have_attribute("aria-sort", "ascending")
                await expect(head.get_by_role("button")).to_be_focused()


async def test_what_is_read_is_not_moved(browser: Browser, tmp_path: Path) -> None:
    """An exit that overtakes another keeps its row and its colour until a person sorts."""
    first = answer(
        exit_("one", flows=9),
        exit_("two", flows=5, state="open", why="3 x connect_timeout"),
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
        two = row(page, "two")
        await expect(two).to_contain_text("Open: not used3\u00a0\u00d7\u00a0connect_timeout")
        await expect(two.get_by_role("button", name="Use again")).to_be_visible()
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
            shown = dict.fromkeys([*names[first : first + 7], "direct", "(other)"], flows)
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
              };
            }"""
        )
    assert found["ends"] == [1, 1, 8, 20, 100, 200, 3000, 100_000]
    # One is as high as it is much, and two stands on it.
    assert found["bars"] == ["M0.1 75h.8v25h-.8zM2.1 25h.8v75h-.8z", "M0.1 0h.8v75h-.8z"]
    assert found["none"] == ["", "", ""]
    assert found["line"] == "M0.5 10.5h.01L1.5 2M3.5 2h.01"
    assert found["columns"] == "M1.1 20v-1h.8V20zM2.1 20v-18h.8V20z"
