"""Subscriptions on the page: a list is looked at, taken, and taken again as it changes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import act, log_in, row, running
from tests.helpers.lists import ListServer
from tests.helpers.proxies import Socks5Proxy

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CLASH = """\
proxies:
  - {name: de-1, type: socks5, server: 192.0.2.1, port: 1080, username: u, password: hush}
  - {name: de-2, type: http, server: 192.0.2.2, port: 8080}
  - {name: de-3, type: vmess, server: 192.0.2.3, port: 443}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


async def add(page: Page, url: str, via: str = "exit") -> None:
    await page.locator("#subscriptions-open").click()
    await page.locator("#add-subscription").click()
    form = page.locator("dialog").last
    await form.locator("[name=name]").fill("seller")
    await form.locator("[name=url]").fill(url)
    await form.locator("[name=via]").fill(via)
    await form.locator("[name=tags]").fill("bought, de")
    await act(form, "Save")


async def test_list_is_looked_at_and_taken_through_the_exit_that_was_named(
    browser: Browser, tmp_path: Path
) -> None:
    async with ListServer(CLASH) as server, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.make("exit", host="127.0.0.1", port=proxy.port)
        async with browser_page(browser, 1400) as page:
            await log_in(page, scene)
            await add(page, server.url(path="/list?token=s3cret"))
            listed = page.locator("#subscriptions")
            await expect(row(page, "seller")).to_contain_text("Not yet fetched")
            await expect(listed).to_contain_text(server.url(path="/"))
            assert "s3cret" not in await page.content()
            assert server.accepted == 0

            await act(row(page, "seller"), "Fetch …")
            preview = page.locator("dialog").last
            await expect(preview).to_contain_text("New: 2")
            await expect(preview).to_contain_text("the type vmess is left out")
            assert await faults(page) == []
            await keep(page, "subscription-preview")
            await act(preview, "Take the list")
            await expect(listed).to_contain_text("next in")
            await page.keyboard.press("Escape")
            await expect(row(page, "de-1")).to_contain_text("#bought")

            server.text = CLASH.replace("de-2", "de-4").replace("192.0.2.1", "192.0.2.9")
            await scene.ask("POST", "/rules", hosts=["x.test"], use="de-2")
            await page.locator("#subscriptions-open").click()
            await act(row(page, "seller"), "Fetch …")
            preview = page.locator("dialog").last
            await expect(preview).to_contain_text("Updated: ")
            await act(preview, "Take the list")
            await expect(row(page, "de-1")).to_contain_text("192.0.2.9")
            assert (await scene.proxy("de-1"))["host"] == "192.0.2.9"
    assert proxy.accepted == 4


async def test_list_that_cannot_be_had_says_why_and_a_wrong_field_is_marked(
    browser: Browser, tmp_path: Path
) -> None:
    async with (
        ListServer("<html>") as server,
        running(tmp_path) as scene,
        browser_page(browser, 800) as page,
    ):
        await log_in(page, scene)
        await add(page, server.url(), "nobody")
        form = page.locator("dialog").last
        await expect(form.locator("[name=via]")).to_have_attribute("aria-invalid", "true")
        assert await faults(page) == []
        await form.locator("[name=via]").fill("direct")
        await act(form, "Save")
        await act(row(page, "seller"), "Fetch …")
        await expect(page.locator("#notices")).to_contain_text("no proxy that can be used")
        await act(row(page, "seller"), "Edit")
        form = page.locator("dialog").last
        await expect(form.locator("[name=url]")).to_have_value("")
        await form.locator("[name=every_hours]").fill("0")
        await act(form, "Save")
        await expect(page.locator("dialog")).to_have_count(1)
        [found] = (await scene.ask("GET", "/subscriptions"))["items"]
        assert (found["every_hours"], found["via"], found["url"]) == (
            *(0, "direct", {"set": True}),
        )
        await act(row(page, "seller"), "Delete")
        await act(page.locator("dialog").last, "Delete")
        await expect(page.locator("#subscriptions")).to_contain_text("No list yet")


async def test_it_fits_at_every_width(browser: Browser, tmp_path: Path) -> None:
    async with ListServer(CLASH) as server, running(tmp_path) as scene:
        async with browser_page(browser, 800) as page:
            await log_in(page, scene)
            await add(page, server.url(), "direct")
            await expect(row(page, "seller")).to_contain_text("Not yet fetched")
        await scene.ask("POST", "/subscriptions/seller/refresh")
        for width in (380, 800, 1400):
            async with browser_page(browser, width) as page:
                await log_in(page, scene)
                for theme in ("light", "dark"):
                    await page.locator("#theme").select_option(theme)
                    await page.locator("#subscriptions-open").click()
                    await expect(row(page, "seller")).to_contain_text("next in")
                    assert await faults(page) == []
                    await keep(page, f"subscriptions-{width}-{theme}")
                    await page.keyboard.press("Escape")
