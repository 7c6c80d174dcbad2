"""The first minutes: how to log in, what to do on an empty page, and a restart in between."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import act, log_in, row, running, show
from tests.helpers.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
SIZES = [(380, "light"), (800, "dark"), (1400, "light")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


async def test_link_logs_in_once_and_then_the_page_says_how(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene:
        link = (await scene.ask("POST", "/link"))["link"]
        async with browser_page(browser) as page:
            await page.goto(link)
            await page.get_by_role("tab", name="Proxy Pool").wait_for()
            assert "#" + link.partition("#")[2] not in page.url
        for width, scheme in SIZES:
            async with browser_page(browser, width) as page:
                await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                await page.goto(link)
                await expect(page.get_by_text("used already")).to_be_visible()
                for command in ("egress-policy dashboard", "egress-policy token"):
                    await expect(page.get_by_text(command, exact=True)).to_be_visible()
                assert await faults(page) == []
                await keep(page, f"login-{width}-{scheme}")


async def test_empty_tabs_say_what_to_do_next(browser: Browser, tmp_path: Path) -> None:
    tabs = ("proxies", "rules", "pools", "exits", "live")
    async with running(tmp_path) as scene:
        for width, scheme in SIZES:
            async with browser_page(browser, width) as page:
                await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                await log_in(page, scene)
                for tab in tabs:
                    await show(page, tab)
                    await page.locator(".nothing").first.wait_for()
                    assert await faults(page) == [], tab
                    await keep(page, f"empty-{tab}-{width}-{scheme}")
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await show(page, "exits")
            await page.get_by_role("main").locator("select").select_option("1")
            await expect(page.locator("td.empty").first).to_contain_text("Nothing matches")
            await page.get_by_role("main").locator("select").select_option("0")
            await act(page, "Add the first proxy")
            await expect(page.locator("#tab-proxies")).to_have_attribute("aria-selected", "true")
            await act(page, "Add the first proxy")
            await page.get_by_label("Name", exact=True).fill("one")
            await page.get_by_label("Host", exact=True).fill("192.0.2.1")
            await page.keyboard.press("Enter")
            await row(page, "one").wait_for()
            await expect(page.locator(".nothing")).to_have_count(0)


async def test_open_page_goes_on_after_a_restart(browser: Browser, tmp_path: Path) -> None:
    place = f"127.0.0.1:{free_port()}"
    async with browser_page(browser) as page:
        async with running(tmp_path, egress_listen=place) as scene:
            await log_in(page, scene)
        await expect(page.locator("#outage")).to_be_visible()
        async with running(tmp_path, egress_listen=place) as scene:
            await expect(page.locator("#outage")).to_be_hidden()
            await scene.make("after")
            await show(page, "proxies")
            await row(page, "after").wait_for()
            await page.reload()
            await row(page, "after").wait_for()
            await page.get_by_role("button", name=re.compile("Log out")).click()
            await page.get_by_label("Token").wait_for()
        async with running(tmp_path, egress_listen=place):
            await page.reload()
            await page.get_by_label("Token").wait_for()
