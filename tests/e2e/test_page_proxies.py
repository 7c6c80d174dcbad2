"""The Proxy Pool tab with many proxies: found, tested and changed together."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import PageServer, act, log_in, row, running, show
from tests.helpers.origin import Origin
from tests.helpers.ports import free_port
from tests.helpers.proxies import Socks5Proxy

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


async def make_thirteen(scene: PageServer, good: int, dead: int) -> None:
    """Six that work and seven that do not, each at its own name."""
    for number in range(13):
        port = good if number < 6 else dead
        await scene.make(
            f"p{number:02}", host="127.0.0.1", port=port, tags=["lab", f"t{number % 2}"]
        )


async def heights(page: Page) -> list[float]:
    rows = "[...document.querySelectorAll('tr[data-name]')]"
    found: list[float] = await page.evaluate(f"{rows}.map((row) => row.offsetHeight)")
    return found


async def test_all_are_tested_while_rows_keep_their_height(
    browser: Browser, tmp_path: Path
) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.ask("PUT", "/settings", test_url=origin.url(path="/hold"))
        await make_thirteen(scene, proxy.port, free_port())
        async with browser_page(browser, 1400) as page:
            await log_in(page, scene)
            await expect(row(page, "p12")).to_be_visible()
            before = await heights(page)
            assert max(before) - min(before) <= 1  # the last row has no line beneath it
            await act(page, "Test all")
            run = page.locator("#test-run")
            await expect(run).to_contain_text("7 of 13 tested: 0 good, 7 failed")
            await expect(row(page, "p12")).to_contain_text("Connection refused")
            await expect(row(page, "p00")).to_contain_text("Waiting")
            await keep(page, "proxies-testing")
            assert await heights(page) == before
            origin.release.set()
            await expect(run).to_contain_text("13 tested: 6 good, 7 failed")
            await expect(row(page, "p00")).to_contain_text(re.compile(r"\d ms"))
            assert await heights(page) == before
            await expect(page.locator("#notices p")).to_have_count(0)
            assert await faults(page) == []
            await keep(page, "proxies-tested")
            await act(run, "Show the failed ones")
            await expect(page.locator("tr[data-name]")).to_have_count(7)
            await expect(page.locator("[name=test]")).to_have_value("failed")
            await act(row(page, "p12"), "p12, last test: Failed")
            await expect(page.get_by_role("dialog")).to_contain_text("Connection refused")
            await act(page.get_by_role("dialog"), "Close")
            await act(run, "Close")
            await expect(run).to_be_empty()
    assert proxy.accepted == 6


async def test_tests_can_be_stopped_and_go_on_in_other_tabs(
    browser: Browser, tmp_path: Path
) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.ask("PUT", "/settings", test_url=origin.url(path="/hold"))
        await make_thirteen(scene, proxy.port, free_port())
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await act(page, "Test all")
            run = page.locator("#test-run")
            await expect(run).to_contain_text("7 of 13 tested")
            await show(page, "rules")
            await show(page, "proxies")
            await expect(run).to_contain_text("7 of 13 tested")
            await act(run, "Stop")
            await expect(run.get_by_role("button", name="Stop")).to_have_count(0)
            await expect(run).to_contain_text("7 of 13 tested: 0 good, 7 failed")
            origin.release.set()
            await proxy.until(lambda: proxy.open == 0)
    assert proxy.accepted == 2  # those that were under way


async def test_target_that_fails_for_many_is_named(browser: Browser, tmp_path: Path) -> None:
    async with Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.ask("PUT", "/settings", test_url=f"http://127.0.0.1:{free_port()}/")
        await scene.make("one", host="127.0.0.1", port=proxy.port)
        await scene.make("two", host="127.0.0.1", port=proxy.port)
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await act(page, "Test all")
            run = page.locator("#test-run")
            await expect(run).to_contain_text("2 tested: 0 good, 2 failed")
            await expect(run).to_contain_text("In 2 cases the target 127.0.0.1 may be to blame")
            await act(row(page, "one"), "one, last test: Failed")
            await expect(page.get_by_role("dialog")).to_contain_text("not the proxy")


async def test_view_is_in_the_address_and_back_goes_back(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await make_thirteen(scene, 1080, 1081)
        await scene.make("other", type="http", region="eu-west")
        await log_in(page, scene)
        rows = page.locator("tr[data-name]")
        await expect(rows).to_have_count(14)
        await page.get_by_label("Tag").select_option("t0")
        await expect(rows).to_have_count(7)
        await page.get_by_label("Search").press_sequentially("p1")
        await expect(rows).to_have_count(2)
        await expect(page).to_have_url(re.compile(r"#proxies\?q=p1&tag=t0$"))
        await page.reload()
        await expect(rows).to_have_count(2)
        await expect(page.get_by_label("Search")).to_have_value("p1")
        await show(page, "rules")
        await page.go_back()
        await expect(rows).to_have_count(2)
        await page.go_back()  # one step for the text, however many letters it has
        await expect(rows).to_have_count(7)
        await expect(page.get_by_label("Search")).to_have_value("")
        await expect(page.get_by_label("Tag")).to_have_value("t0")
        await page.go_back()
        await expect(rows).to_have_count(14)
        await page.go_forward()
        await expect(rows).to_have_count(7)
        await act(page, "Clear filters")
        await expect(rows).to_have_count(14)
        await expect(page.get_by_label("Search")).to_be_focused()
        for name, value, count in (
            ("region", "eu-west", 1),
            ("type", "http", 1),
            ("test", "none", 14),
            ("status", "inactive", 0),
        ):
            await page.locator(f"[name={name}]").select_option(value)
            await expect(rows).to_have_count(count)
            await act(page, "Clear filters")
        await page.goto(f"{scene.url}#proxies?family=nonsense&sort=nothing&page=x&q=other")
        await expect(rows).to_have_count(14)
        await expect(page).to_have_url(re.compile("#proxies$"))


async def test_many_are_tested_and_changed_with_the_keyboard_alone(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        for name in ("a", "b"):
            await scene.make(name, host="127.0.0.1", port=1)
        await log_in(page, scene)
        await page.get_by_label("Select all on this page").focus()
        press = page.keyboard.press
        await press("Space")
        chosen = page.get_by_role("group", name="Selected proxies")
        await expect(chosen).to_contain_text("2 selected")
        await expect(page.get_by_label("Select all on this page")).to_be_focused()
        for _ in range(6):  # back over the buttons of what is selected
            await press("Shift+Tab")
        await press("Shift+Tab")
        await expect(chosen.get_by_role("button", name="Test")).to_be_focused()
        await press("Enter")
        run = page.locator("#test-run")
        await expect(run).to_contain_text("2 tested: 0 good, 2 failed")
        await run.get_by_role("button", name="Close").focus()
        await press("Enter")
        await expect(page.get_by_role("button", name="Test all")).to_be_focused()
        await chosen.get_by_role("button", name="Edit …").focus()
        await press("Enter")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Add tags").focus()
        await page.keyboard.type("eu")
        await press("Enter")
        await expect(row(page, "a")).to_contain_text("#eu")
        await expect(chosen.get_by_role("button", name="Edit …")).to_be_focused()
        await chosen.get_by_role("button", name="Select none").focus()
        await press("Enter")
        await expect(page.get_by_label("Select all on this page")).to_be_focused()


async def test_chosen_get_family_tags_and_status_together(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        for name in ("a", "b"):
            await scene.make(name, host=f"{name}.example", tags=["old"])
        for name in ("v4", "v4-too"):
            await scene.make(name, host="192.0.2.7")
        await log_in(page, scene)
        await page.get_by_label("Select all on this page").check()
        chosen = page.get_by_role("group", name="Selected proxies")
        await act(chosen, "Edit …")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("IP family").select_option("ipv6")
        await dialog.get_by_label("Add tags").fill("eu, Fast")
        await dialog.get_by_label("Remove tags").fill("old")
        await act(dialog, "Save")
        await expect(dialog).to_contain_text("2 proxies stayed as they were")
        await expect(dialog).to_contain_text("2 proxies changed")
        await expect(dialog.locator("tbody tr")).to_have_count(1)
        await expect(dialog.locator("tbody tr")).to_contain_text("v4, v4-too")
        await keep(page, "proxies-bulk-failed")
        await act(dialog, "Close")
        await expect(row(page, "a")).to_contain_text("IPv6 only")
        await expect(row(page, "a")).to_contain_text("#eu · #fast")
        await expect(page.locator("[name=tag]")).to_contain_text("fast (2)")
        await act(chosen, "Disable")
        await expect(page.locator("#notices")).to_contain_text("4 proxies changed")
        items = (await scene.ask("GET", "/proxies"))["items"]
        assert {(one["status"], one["family"], *one["tags"]) for one in items} == {
            ("inactive", "ipv6", "eu", "fast"),
            ("inactive", "auto"),
        }
        await scene.ask("POST", "/rules", use="a")
        await act(chosen, "Delete")
        await act(dialog, "Delete")
        await expect(dialog).to_contain_text("3 proxies deleted")
        await expect(dialog).to_contain_text("in use by 1")
        await act(dialog, "Close")
        await expect(page.locator("tr[data-name]")).to_have_count(1)
        await expect(chosen).to_contain_text("1 selected")


async def test_tags_are_edited_in_the_form(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit", tags=["eu"])
        await log_in(page, scene)
        await act(row(page, "exit"), "Edit")
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_label("Tags")).to_have_value("eu")
        await dialog.get_by_label("Tags").fill("eu, two words")
        await act(dialog, "Save")
        await expect(row(page, "exit")).to_contain_text("#eu · #two · #words")
        await act(row(page, "exit"), "Edit")
        await dialog.get_by_label("Tags").fill("")
        await act(dialog, "Save")
        await expect(row(page, "exit")).not_to_contain_text("#")


async def test_pasted_list_is_previewed_with_its_errors_in_groups(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await act(page, "Import")
        dialog = page.get_by_role("dialog")
        good = [f"socks5://192.0.2.{number}:1080#p{number}" for number in range(1, 6)]
        bad = [f"socks5://192.0.2.{number}:99999" for number in range(1, 5)]
        await dialog.get_by_role("textbox").fill("\n".join(good + bad))
        await expect(dialog).to_contain_text("5 new, 0 skipped, 4 failed")
        errors = dialog.locator("tbody tr").filter(has_text="Error")
        await expect(errors).to_have_count(1)
        await expect(errors).to_contain_text("3 more lines")
        await act(dialog, "Import")
        await expect(page.locator("tr[data-name]")).to_have_count(5)


async def test_pasted_clash_list_says_what_it_leaves_out_and_why(
    browser: Browser, tmp_path: Path
) -> None:
    lines = (
        "port: 7890",
        "proxies:",
        "  - {name: plain, type: http, server: 192.0.2.1, port: 3128}",
        "  - {name: socks, type: socks5, server: 192.0.2.2, port: 1080}",
        "  - {name: other, type: vmess, server: 192.0.2.3, port: 443}",
        "  - {name: bad, type: http, server: 192.0.2.4, port: 99999}",
    )
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await act(page, "Import")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("textbox").fill("\n".join(lines))
        await expect(dialog).to_contain_text("2 new, 1 skipped, 1 failed")
        rows = dialog.locator("tbody tr")
        await expect(rows.filter(has_text="vmess")).to_contain_text("the type vmess is left out")
        await expect(rows.filter(has_text="port")).to_contain_text("Error")
        assert await faults(page) == []
        await keep(page, "clash-preview")
        await act(dialog, "Import")
        await expect(page.locator("tr[data-name]")).to_have_count(2)
        await expect(row(page, "other")).to_have_count(0)


async def test_many_are_legible_at_every_width_in_both_themes(
    browser: Browser, tmp_path: Path
) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.ask("PUT", "/settings", test_url=origin.url())
        await make_thirteen(scene, proxy.port, free_port())
        name = "a-rather-long-name-of-a-proxy-in-amsterdam-eu-west-1"
        await scene.make(name, region="eu-west", host="127.0.0.1", port=1)
        await scene.make("v6", host="2001:db8:1111:2222:3333:4444:5555:6666", family="ipv6")
        for width in (380, 800, 1400):
            async with browser_page(browser, width) as page:
                await log_in(page, scene)
                for theme in ("light", "dark"):
                    await page.get_by_label("Theme").select_option(theme)
                    await act(page, "Test all")
                    said = re.compile("^15 tested: 6 good, 9 failed")
                    await expect(page.locator("#test-run strong")).to_have_text(said)
                    await page.get_by_label("Select p00").check()
                    assert await faults(page) == []
                    await keep(page, f"proxies-many-{width}-{theme}")
                    await act(page.locator("#test-run"), "Close")
                    await act(page, "Select none")
