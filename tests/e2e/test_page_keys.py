"""The page by keyboard: shortcuts, what Escape asks, and where the focus goes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import act, log_in, row, running, show

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


async def test_keys_search_add_and_go_to_tabs(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await show(page, "proxies")
        dialog = page.get_by_role("dialog")
        await page.keyboard.press("/")
        search = page.get_by_role("searchbox")
        await expect(search).to_be_focused()
        await page.keyboard.type("/gn?")  # while somebody types, letters are letters
        await expect(search).to_have_value("/gn?")
        await expect(dialog).to_have_count(0)
        await search.fill("")
        await search.blur()
        await page.keyboard.press("n")
        name = dialog.get_by_label("Name", exact=True)
        await expect(name).to_be_focused()
        await expect(name).to_have_value("")
        await page.keyboard.press("Escape")
        await page.locator("#add-proxy").blur()
        for letter, tab in {"r": "rules", "l": "live", "g": "pools", "p": "proxies"}.items():
            await page.keyboard.press("g")
            await page.keyboard.press(letter)
            await expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("g")
        await page.keyboard.press("n")  # no tab has it, and it does not add either
        await expect(dialog).to_have_count(0)


async def test_keys_are_listed_and_can_be_switched_off(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.goto(scene.url)
        await page.locator("#token").blur()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await log_in(page, scene)
        await page.keyboard.press("?")
        dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
        await expect(dialog).to_contain_text("Proxy Pool")
        assert await faults(page) == []
        await keep(page, "shortcuts")
        await dialog.get_by_label("Shortcuts are on").uncheck()
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await page.keyboard.press("n")
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await act(page, "Keyboard shortcuts")
        await dialog.get_by_label("Shortcuts are on").check()
        await act(dialog, "Close")
        await page.keyboard.press("n")
        await expect(page.get_by_role("dialog", name="Add proxy")).to_be_visible()


async def test_escape_asks_before_it_drops_what_was_typed(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await show(page, "proxies")
        form = page.get_by_role("dialog", name="Add proxy")
        question = page.get_by_role("dialog", name="Discard your changes?")
        await act(page, "Add proxy")
        await page.keyboard.press("Escape")
        await expect(form).to_have_count(0)
        await act(page, "Add proxy")
        name = form.get_by_label("Name", exact=True)
        await name.fill("exit")
        for _ in range(3):  # a browser closes a dialog at the second Escape, asked or not
            await page.keyboard.press("Escape")
            await expect(question).to_be_visible()
            assert await faults(page) == []
            await page.keyboard.press("Escape")
            await expect(question).to_have_count(0)
        await expect(name).to_have_value("exit")
        await expect(name).to_be_focused()
        await page.keyboard.press("Escape")
        await act(question, "Keep editing")
        await name.fill("")  # as it was
        await page.keyboard.press("Escape")
        await expect(form).to_have_count(0)
        await act(page, "Add proxy")
        await form.get_by_label("Type").select_option("socks5")
        await page.keyboard.press("Escape")
        await act(question, "Discard")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.locator("#add-proxy")).to_be_focused()


async def test_focus_goes_to_the_row_that_takes_the_place_of_a_deleted_one(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        for name in ("a", "b", "c"):
            await scene.make(name)
            await scene.ask("POST", "/rules", name=name, hosts=[f"{name}.test"], use="refuse")
        await log_in(page, scene)
        await show(page, "proxies")
        dialog = page.get_by_role("dialog")
        for name, next_ in {"b": "c", "c": "a"}.items():
            await act(page, f"Delete: {name}")
            await act(dialog, "Delete")
            await expect(row(page, name)).to_have_count(0)
            await expect(row(page, next_).locator(":focus")).to_have_count(1)
        await act(page, "Edit: a")
        await dialog.get_by_label("Notes").fill("seen")
        await act(dialog, "Save")
        await expect(dialog).to_have_count(0)
        await expect(page.get_by_role("button", name="Edit: a")).to_be_focused()
        await act(page, "Delete: a")
        await act(dialog, "Delete")
        await expect(page.get_by_role("main")).to_contain_text("No proxy yet")
        in_table = page.locator("[role=region]:focus, [role=region] :focus")
        await expect(in_table).to_have_count(1)
        await show(page, "rules")
        await act(page, "Delete: a")
        await act(dialog, "Delete")
        await expect(page.locator("tr:focus-within")).to_contain_text("b.test")
