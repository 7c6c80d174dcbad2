"""The page in a real browser, before a real mitmdump, while real traffic flows."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Route, expect

from egress_policy import api
from tests.api.scene import serving
from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import act, log_in, row, running, show
from tests.helpers.clients import http_get
from tests.helpers.conformance import load
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
TABS = ("overview", "proxies", "rules", "pools", "exits", "live", "status")
MESSAGES = Path(api.__file__).parent / "messages"
SECRET = "hush-hush-7"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


class Echo(Origin):
    """Answers an address that the caller never had."""

    def describe(self, *asked: Any, **more: Any) -> bytes:
        return super().describe(*asked, ip="192.0.2.99", **more)


async def test_wrong_token_is_rejected_and_the_right_one_opens_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.goto(scene.url)
        await page.get_by_label("Token").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("token is wrong")
        await log_in(page, scene)
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_proxy_is_added_pinned_tested_and_deleted(browser: Browser, tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.ask("PUT", "/settings", test_url=origin.url())
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await expect(page.get_by_role("main")).to_contain_text("No proxy yet")
            await act(page, "Add proxy")
            dialog = page.get_by_role("dialog")
            await dialog.get_by_label("Name", exact=True).fill("exit")
            await dialog.get_by_label("Type").select_option("socks5")
            await expect(dialog.get_by_label("Port")).to_have_value("1080")
            await dialog.get_by_label("Host").fill("127.0.0.1")
            await dialog.get_by_label("Port").fill(str(proxy.port))
            family = dialog.locator("[name=family]")
            options = ["Auto (dual-stack)", "IPv4 only", "IPv6 only"]
            await expect(family.locator("option")).to_have_text(options)
            await expect(dialog.locator("#family-hint")).to_contain_text("one address family")
            await family.select_option("ipv6")
            await expect(dialog.locator("#family-warning")).to_contain_text("other family")
            await act(dialog, "Save")
            await expect(dialog).to_contain_text("contradicts IPv4 literal host")
            await expect(dialog.locator("[aria-invalid]")).to_be_focused()
            await family.select_option("ipv4")
            await expect(dialog.locator("#family-warning")).to_be_empty()
            await act(dialog, "Save")
            exit_ = row(page, "exit")
            await expect(exit_).to_contain_text("IPv4 only")
            await act(exit_, "Test")
            await expect(exit_).to_contain_text(
                re.compile(r"\d ms.*connect .*handshake .*first byte")
            )
            await expect(exit_.get_by_role("button", name="Test: exit")).to_be_focused()
            await exit_.get_by_role("switch").uncheck()
            await expect(exit_).to_contain_text("Inactive")
            await expect(exit_.get_by_role("switch")).to_be_focused()
            assert (await scene.proxy("exit"))["status"] == "inactive"
            await exit_.get_by_role("switch").check()
            await expect(exit_).to_contain_text("Active")
            await act(exit_, "Edit")
            await dialog.get_by_label("Host").fill("proxy.example.com")
            await family.select_option("ipv6")
            await act(dialog, "Save")
            await expect(exit_).to_contain_text("IPv6 only")
            assert (await scene.proxy("exit"))["family"] == "ipv6"
            await act(exit_, "Delete")
            await act(dialog, "Delete")
            await expect(exit_).to_have_count(0)
    assert proxy.accepted == 1


async def test_password_is_kept_changed_and_cleared_but_never_shown(
    browser: Browser, tmp_path: Path
) -> None:
    async def stored() -> Any:
        export = await scene.ask("GET", "/proxies/export?format=json&secrets=1")
        return export["items"][0].get("password", "")

    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit", type="http", username="u", password=SECRET)
        await log_in(page, scene)
        dialog = page.get_by_role("dialog")
        password = dialog.get_by_label("Password", exact=True)
        await act(row(page, "exit"), "Edit")
        await expect(password).to_have_value("")
        await expect(password).to_have_attribute("placeholder", "Set")
        await dialog.get_by_label("Region").fill("eu")
        await act(dialog, "Save")
        await expect(row(page, "exit")).to_contain_text("eu")
        assert await stored() == SECRET
        await act(row(page, "exit"), "Edit")
        await password.fill("another")
        await act(dialog, "Save")
        await expect(dialog).to_have_count(0)
        assert await stored() == "another"
        await act(row(page, "exit"), "Edit")
        await dialog.get_by_label("Remove the password").check()
        await act(dialog, "Save")
        await expect(dialog).to_have_count(0)
        assert await stored() == ""
        assert SECRET not in await page.content()


async def test_proxy_in_use_is_deleted_after_its_users_were_shown(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit")
        await scene.ask("POST", "/rules", name="my rule", use="exit")
        await log_in(page, scene)
        dialog = page.get_by_role("dialog")
        await act(row(page, "exit"), "What uses exit")
        await expect(dialog).to_contain_text("my rule")
        await act(dialog, "Close")
        await act(row(page, "exit"), "Delete")
        await expect(dialog).to_contain_text("In use by: my rule")
        await expect(dialog).to_contain_text("nothing goes direct")
        await act(dialog, "Delete anyway")
        await expect(dialog).to_have_count(0)
        await show(page, "rules")
        await expect(page.get_by_role("main")).to_contain_text("refusing to egress")


async def test_list_is_previewed_then_imported(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await act(page, "Import")
        dialog = page.get_by_role("dialog")
        lines = f"socks5://u:{SECRET}@192.0.2.1:1080#one\nnonsense\n"
        send = dialog.get_by_role("button", name="Import")
        await dialog.get_by_role("textbox").fill(lines)
        await expect(send).to_be_disabled()
        await act(dialog, "Preview")
        await expect(dialog).to_contain_text("1 new, 0 skipped, 1 failed")
        await expect(dialog.locator("tbody tr").first).to_contain_text(re.compile("2.*Error.*port"))
        assert (await scene.ask("GET", "/proxies"))["page"]["total"] == 0
        await dialog.get_by_role("textbox").press("End")
        await dialog.get_by_role("textbox").press_sequentially("#")
        await expect(send).to_be_disabled()
        file = {"name": "list.txt", "mimeType": "text/plain", "buffer": lines.encode()}
        await dialog.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
        await expect(send).to_be_enabled()
        await keep(page, "import")
        await send.click()
        await expect(row(page, "one")).to_be_visible()
        assert SECRET not in await page.content()


async def test_exported_file_goes_back_in_as_it_was(browser: Browser, tmp_path: Path) -> None:
    """Has line ends within a cell, which a text area would change."""
    fields = {"password": "=1;'+1", "notes": 'a\r\nb\v,"c', "region": "\u200b=x"}
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        dialog = page.get_by_role("dialog")
        id_ = await scene.make("exit", username="u", **fields)
        before = await scene.ask("GET", "/proxies/export?format=json&secrets=1")
        for form in ("text", "csv", "json"):
            await act(page, "Export")
            await dialog.get_by_label("Format").select_option(form)
            await dialog.get_by_label("With passwords").check()
            async with page.expect_download() as download:
                await act(dialog, "Export")
            file = await (await download.value).path()
            await scene.ask("DELETE", f"/proxies?id={id_}")
            await act(page, "Import")
            await dialog.locator("input[type=file]").set_input_files(file)
            await act(dialog, "Import")
            await expect(dialog).to_have_count(0)
            assert await scene.ask("GET", "/proxies/export?format=json&secrets=1") == before
            id_ = (await scene.proxy("exit"))["id"]


async def test_changed_password_is_shown_and_taken_if_asked(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit", username="u", password="old")
        await log_in(page, scene)
        await act(page, "Import")
        dialog = page.get_by_role("dialog")
        lines = f"socks5://u:{SECRET}@192.0.2.1:1080#exit\n192.0.2.9:1"
        await dialog.get_by_role("textbox").fill(lines)
        await act(dialog, "Preview")
        rows = dialog.locator("tbody tr")
        await expect(rows.first).to_contain_text(re.compile("1.*Differs.*only in its password"))
        await expect(rows.last).to_contain_text("socks5 (assumed)")
        await dialog.get_by_label("Type of lines without one").select_option("https")
        await dialog.get_by_label("Take other credentials").check()
        await act(dialog, "Preview")
        await expect(rows.first).to_contain_text("Updated")
        await expect(rows.last).to_contain_text("https (assumed)")
        await act(dialog, "Import")
        await expect(dialog).to_have_count(0)
        export = await scene.ask("GET", "/proxies/export?format=json&secrets=1")
        assert [one["password"] for one in export["items"]] == ["", SECRET]


async def test_list_is_exported_without_secrets_unless_asked(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit", username="u", password=SECRET, family="ipv4")
        await log_in(page, scene)
        dialog = page.get_by_role("dialog")
        for secrets in (False, True):
            await act(page, "Export")
            await dialog.get_by_label("With passwords").set_checked(secrets)
            async with page.expect_download() as download:
                await act(dialog, "Export")
            file = await download.value
            text = (await file.path()).read_text("utf-8")
            assert file.suggested_filename == "proxies.txt"
            assert ("?family=ipv4" in text) == secrets
            assert '"family": "ipv4"' in text or secrets
            assert (SECRET in text) == secrets


async def test_many_are_searched_filtered_and_changed_at_once(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        for name, family in (("one", "ipv4"), ("two", "ipv6"), ("three", "auto")):
            await scene.make(name, host=f"{name}.example", family=family)
        await scene.ask("POST", "/rules", use="one")
        await log_in(page, scene)
        rows = page.locator("tr[data-name]")
        await page.get_by_label("IP family").select_option("ipv6")
        await expect(rows).to_have_count(1)
        await page.get_by_label("IP family").select_option("")
        await page.get_by_label("Search").fill("THREE")
        await expect(rows).to_have_count(1)
        await page.get_by_label("Search").fill("nowhere")
        await expect(page.get_by_role("main")).to_contain_text("Nothing matches the search")
        await page.get_by_label("Search").fill("")
        await expect(rows).to_have_count(3)
        await act(page, "Name")
        await expect(rows.first).to_contain_text("two")
        head = page.get_by_role("columnheader", name="Name")
        await expect(head).to_have_attribute("aria-sort", "descending")
        await expect(head.get_by_role("button")).to_be_focused()
        await page.get_by_label("Select one").check()
        await page.get_by_label("Select two").check()
        chosen = page.get_by_role("group", name="Selected proxies")
        notices = page.locator("#notices")
        await expect(chosen).to_contain_text("2 selected")
        await act(chosen, "Disable")
        await expect(notices).to_contain_text("2 proxies changed")
        items = (await scene.ask("GET", "/proxies"))["items"]
        inactive = sorted(one["name"] for one in items if one["status"] == "inactive")
        assert inactive == ["one", "two"]
        await page.get_by_label("Status").select_option("active")
        await expect(rows).to_have_count(1)
        await page.get_by_label("Status").select_option("")
        await act(chosen, "Enable")
        await expect(notices.get_by_text("2 proxies changed")).to_have_count(2)
        await act(chosen, "Delete")
        await act(page.get_by_role("dialog"), "Delete")
        await expect(page.get_by_role("dialog")).to_contain_text("1 proxy deleted")
        await expect(page.get_by_role("dialog")).to_contain_text("Proxy one is in use by 1")
        await act(page.get_by_role("dialog"), "Close")
        await expect(rows).to_have_count(2)


async def test_ten_thousand_stay_usable(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        lines = "\n".join(f"socks5://10.{i >> 8}.{i & 255}.1:1080#p{i:05}" for i in range(10_000))
        report = await scene.ask("POST", "/proxies/import", text=lines)
        assert report["created"] == 10_000
        names = [f"p{i:05}" for i in range(10_000)]
        await scene.ask("POST", "/pools", name="all", members=names)
        await log_in(page, scene)
        rows = page.locator("tr[data-name]")
        await expect(rows).to_have_count(50)
        await expect(page.get_by_role("main")).to_contain_text(re.compile("1.50 of 10,000"))
        await act(page, "Last page")
        await expect(rows.last).to_contain_text("p09999")
        await page.get_by_label("Search").fill("p0777")
        await expect(rows).to_have_count(10)
        await page.get_by_label("Select all on this page").check()
        await page.get_by_label("Search").fill("p07")
        await expect(page.get_by_role("main")).to_contain_text(re.compile("1.50 of 1,000"))
        await act(page, "Select all 1,000 found")
        await expect(page.get_by_role("group", name="Selected")).to_contain_text("1,000 selected")
        await show(page, "pools")
        await act(page, "Members: all")
        await expect(rows).to_have_count(50)
        await expect(page.get_by_role("main")).to_contain_text(re.compile("1.50 of 10,000"))
        await act(page, "Last page")
        await expect(rows.last).to_contain_text("p09999")
        await show(page, "exits")
        await expect(rows).to_have_count(50)
        await show(page, "rules")
        await act(page, "Add rule")
        use = page.get_by_role("dialog").get_by_label("Uses")
        await use.fill("p09876")
        await expect(page.locator("datalist option[value=p09876]")).to_have_count(1)


async def test_pools_are_made_and_changed(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("one")
        await log_in(page, scene)
        await show(page, "pools")
        await act(page, "Add group")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("homes")
        await dialog.get_by_label("Add a member").fill("one")
        await act(dialog, "Add", "Save")
        await expect(row(page, "homes")).to_contain_text(re.compile("In turn.*one"))
        await act(page, "Edit: homes")
        await expect(dialog.get_by_label("Minutes")).to_be_hidden()
        await dialog.get_by_label("Strategy").select_option("first")
        await act(dialog, "Save")
        await expect(row(page, "homes")).to_contain_text("First")
        await act(page, "Delete: homes")
        await act(dialog, "Delete")
        await expect(row(page, "homes")).to_have_count(0)


async def test_pool_has_weights_and_checks(browser: Browser, tmp_path: Path) -> None:
    async def pool() -> dict[str, Any]:
        [found] = (await scene.ask("GET", "/pools"))["items"]
        return dict(found)

    async with running(tmp_path) as scene, browser_page(browser) as page:
        for name in ("one", "two"):
            await scene.make(name)
        await log_in(page, scene)
        await show(page, "pools")
        await act(page, "Add group")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("homes")
        await dialog.get_by_label("Strategy").select_option("sticky")
        await expect(dialog.get_by_label("Which header")).to_be_hidden()
        await dialog.get_by_label("Kept for each").select_option("header")
        await dialog.get_by_label("Which header").fill("X-Account")
        await dialog.get_by_label("Add a member").fill("one")
        await act(dialog, "Add")
        await dialog.get_by_label("Add a member").fill("two")
        await dialog.get_by_label("Weight").fill("3")
        await act(dialog, "Add")
        await expect(dialog.get_by_label("Members", exact=False).first).to_have_value("one\ntwo=3")
        await dialog.get_by_label("Further members").fill("2")
        await dialog.get_by_label("Seed").fill("7")
        await expect(dialog.get_by_label("Expected status")).to_be_hidden()
        await dialog.get_by_label("Checks").select_option("all")
        await dialog.get_by_label("Every").fill("soon")
        await act(dialog, "Save")
        await expect(dialog.get_by_label("Every")).to_have_attribute("aria-invalid", "true")
        await expect(dialog).to_contain_text("a time from 1s to 24h is expected")
        await dialog.get_by_label("Every").fill("5m")
        await dialog.get_by_label("leave by IPv6").fill("https://a.example/")
        await act(dialog, "Save")
        await expect(row(page, "homes")).to_contain_text(
            re.compile("Sticky: Header x-account, 30 minutes.*one.*two . 3")
        )
        made = await pool()
        assert made["members"] == ["one", {"name": "two", "weight": 3}]
        assert (made["sticky_by"], made["failover"], made["seed"]) == ("header:x-account", 2, 7)
        url = {"ipv4": None, "ipv6": "https://a.example/"}
        checks = {"every": 300, "expect": "200-399", "members": "all", "url": url}
        assert made["checks"] == checks
        await act(page, "Edit: homes")
        await dialog.get_by_label("Name").fill("flats")
        await act(dialog, "Save")
        await expect(row(page, "flats")).to_be_visible()
        kept = ("members", "sticky_by", "failover", "seed", "checks")
        assert {key: (await pool())[key] for key in kept} == {key: made[key] for key in kept}
        await act(page, "Edit: flats")
        await dialog.get_by_label("Checks").select_option("")
        await dialog.get_by_label("Seed").fill("")
        await act(dialog, "Save")
        await expect(dialog).to_have_count(0)
        assert ((await pool())["checks"], (await pool())["seed"]) == (None, None)


async def test_proxy_has_a_limit_and_an_expected_exit(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit")
        await log_in(page, scene)
        await act(page, "Edit: exit")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_text("More").click()
        await dialog.get_by_label("When it fails").select_option("ignore")
        await dialog.get_by_label("Connections at most").fill("5")
        await dialog.get_by_label("Expected IP family").select_option("ipv6")
        networks = dialog.get_by_label("Expected networks")
        await networks.fill("192.0.2.0/24")
        await dialog.get_by_label("Refuse unless").check()
        await act(dialog, "Save")
        await expect(networks).to_have_attribute("aria-invalid", "true")
        await networks.fill("2001:db8::/32 2001:db8:1::7")
        await act(dialog, "Save")
        await expect(dialog).to_have_count(0)
        found = await scene.proxy("exit")
        assert (found["health"], found["max_connections"]) == ("ignore", 5)
        assert (found["exit_family"], found["exit_enforce"]) == ("ipv6", True)
        assert found["exit_in"] == ["2001:db8::/32", "2001:db8:1::7/128"]
        await act(page, "Edit: exit")
        await expect(networks).to_have_value("2001:db8::/32, 2001:db8:1::7/128")
        await dialog.get_by_label("Refuse unless").uncheck()
        await networks.fill("")
        await act(dialog, "Save")
        await expect(dialog).to_have_count(0)
        found = await scene.proxy("exit")
        assert (found["exit_in"], found["exit_enforce"]) == ([], False)


async def test_pool_shows_how_its_members_fare(browser: Browser, tmp_path: Path) -> None:
    """One of two members is dead: clients do not notice, a person does."""
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.make("good", host="127.0.0.1", port=proxy.port, max_connections=9)
        await scene.make("dead", host="127.0.0.1", port=1)
        await scene.make("off", status="inactive")
        await scene.ask("POST", "/pools", name="homes", members=["good", "dead", "off"])
        await scene.ask("POST", "/rules", use="homes")

        async def ask() -> None:
            assert (await http_get(scene.mitm.port, origin.url())).status == 200

        for _ in range(8):
            await ask()
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await expect(row(page, "dead")).to_contain_text("Open: not used")
            await expect(row(page, "dead").get_by_role("switch")).to_be_checked()
            await show(page, "rules")
            await page.get_by_label("URL").fill(origin.url())
            await act(page, "Explain")
            await expect(page.locator("#explanation")).to_contain_text(
                re.compile("homes.*good.*dead.*Open: not used.*off: ")
            )
            await expect(page.locator("#explanation .outcome")).to_have_class("outcome good")
            used = {"scopeId": "x.test", "proxyId": (await scene.proxy("dead"))["id"]}
            await scene.ask("PUT", "/proxies/assignments", scope="host", **used)
            await page.get_by_label("URL").fill("http://x.test/")
            await act(page, "Explain")
            await expect(page.locator("#explanation .outcome")).to_have_class("outcome warn")
            await show(page, "pools")
            await act(page, "Members: homes")
            await expect(page.get_by_role("heading", name="Members of homes")).to_be_focused()
            good, dead = row(page, "good"), row(page, "dead")
            await expect(good).to_contain_text(re.compile("Active.*Usable"))
            await expect(good).to_contain_text(re.compile("100% of 8 attempts worked"))
            await expect(good).to_contain_text(re.compile("expected 100%.* of 9"))
            await expect(good.locator("svg.trend polyline")).to_have_count(1)
            why = r"(3\W+|a trial failed: )connect_refused"
            away = re.compile(rf"Active.*Open: not used.*since \d.*: {why}")
            await expect(dead).to_contain_text(away)
            await expect(dead).to_contain_text("expected 0%")
            countdown = dead.locator(".countdown")
            await expect(countdown).to_have_text(re.compile(r"next try in \d+ sec"))
            was = await countdown.text_content() or ""
            await expect(countdown).not_to_have_text(was)
            await keep(page, "members")
            await dead.locator("summary").click()
            await expect(dead.get_by_role("listitem").last).to_have_text(
                re.compile(r"open since \d.*: 3\W+connect_refused")
            )
            await act(dead, "Use again")
            await expect(page.locator("#notices")).to_contain_text("dead is used again")
            await expect(dead).to_contain_text("Usable")
            await expect(dead).to_contain_text("put back to use by hand")
            await expect(dead.get_by_role("button", name="Use again")).to_have_count(0)
            await expect(dead.locator("summary")).to_be_focused()
            await page.get_by_label("Now").select_option("open")
            await expect(page.get_by_role("main")).to_contain_text("Nothing here yet")
            for _ in range(8):  # the page follows by itself
                await ask()
            await expect(dead).to_contain_text("Open: not used")
            await act(page, "All groups")
            await expect(row(page, "homes").get_by_role("button", name="Members")).to_be_focused()


async def test_members_are_not_drawn_anew_under_the_hands_of_a_person(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("one")
        await scene.ask("POST", "/pools", name="homes", members=["one"])
        await page.clock.install()
        await log_in(page, scene)
        await show(page, "pools")
        await act(page, "Members: homes")
        drawn = await row(page, "one").element_handle()

        async def poll() -> None:
            async with page.expect_response("**/members?*"):
                await page.clock.fast_forward(5000)
            await page.evaluate("() => new Promise(requestAnimationFrame)")

        assert drawn is not None
        await drawn.evaluate("(row) => getSelection().selectAllChildren(row)")
        await poll()
        assert await drawn.evaluate("(row) => row.isConnected")
        await page.evaluate("getSelection().empty()")
        await poll()
        assert not await drawn.evaluate("(row) => row.isConnected")
        hidden = "Object.defineProperty(document, 'hidden', { value: true, configurable: true })"
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.evaluate(hidden)
        await page.clock.fast_forward(20_000)
        await page.evaluate("() => new Promise(requestAnimationFrame)")
        assert asked == []


async def test_trend_of_a_member_is_kept_within_bounds(browser: Browser, tmp_path: Path) -> None:
    """Counters that fall are those of a process that has started anew."""
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        points, marks = await page.evaluate(
            """async () => {
              const { sample, trend } = await import("/static/js/trend.js");
              const one = { proxy: "one", ewma_ms: 5, successes: 9, failures: 0 };
              const counts = (n) => ({ ...one, successes: n % 100 === 50 ? 3 : 9 });
              for (let n = 0; n < 200; n += 1) sample(counts(n));
              for (let n = 0; n < 499; n += 1) sample({ ...one, proxy: `${n}` });
              const drawing = trend(one).at(-1);
              const points = drawing.querySelector("polyline").getAttribute("points");
              return [points.split(" ").length, drawing.querySelectorAll("rect.good").length];
            }"""
        )
    assert (points, marks) == (60, 2)


async def test_keys_of_a_sticky_pool_are_counted_and_forgotten(
    browser: Browser, tmp_path: Path
) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.make("good", host="127.0.0.1", port=proxy.port)
        await scene.ask("POST", "/pools", name="homes", members=["good"], strategy="sticky")
        await scene.ask("POST", "/rules", use="homes")
        assert (await http_get(scene.mitm.port, origin.url())).status == 200
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await show(page, "pools")
            await act(page, "Members: homes")
            held = page.get_by_role("table", name="1 key has a member")
            await expect(held.locator("tbody tr")).to_contain_text(re.compile("good.*in 30 min"))
            await expect(held).not_to_contain_text("127.0.0.1")
            await act(page, "Forget them")
            dialog = page.get_by_role("dialog")
            await expect(dialog).to_contain_text("Forget 1 key of homes?")
            await act(dialog, "Forget them")
            await expect(page.locator("#notices")).to_contain_text("1 key forgotten")
            await expect(page.get_by_role("main")).to_contain_text("No key has a member yet")


async def test_exits_are_shown_beside_what_is_expected(browser: Browser, tmp_path: Path) -> None:
    async with Echo() as echo, Socks5Proxy() as proxy, running(tmp_path) as scene:
        place: Any = {"host": "127.0.0.1", "port": proxy.port}
        for name, fields in (("one", place), ("two", {"exit_family": "ipv6"}), ("off", {})):
            await scene.make(name, **fields)
        for user, proxy_id in (("a", "one"), ("b", "two")):
            scope = {"scope": "user", "scopeId": user, "group": "shop"}
            await scene.ask("PUT", "/proxies/assignments", **scope, proxyId=proxy_id)
        seen = [{"proxy": name, "address": "192.0.2.77"} for name in ("one", "two")]
        await scene.ask("POST", "/exits/observations", observations=seen)
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await show(page, "exits")
            main, one, two = page.get_by_role("main"), row(page, "one"), row(page, "two")
            await expect(main).to_contain_text("No echo is set")
            await expect(one).to_contain_text(re.compile("Any.*192.0.2.77.*Too few looks.*program"))
            await expect(two).to_contain_text(re.compile("IPv6 only.*192.0.2.77.*an IPv4 address"))
            await expect(row(page, "off")).to_contain_text("Not seen yet")
            await expect(main.get_by_role("button", name="Look now")).to_have_count(0)
            shared = page.get_by_role("table", name="Shared exits").locator("tbody tr")
            await expect(shared).to_contain_text([re.compile("shop.*Shared.*192.0.2.77.*one.*two")])
            await main.get_by_role("combobox").select_option("1")
            await expect(page.locator("tr[data-name]")).to_have_count(1)
            await expect(two).to_be_visible()
            await scene.ask("PUT", "/settings", echo={"ipv4": echo.url(), "ipv6": None})
            await show(page, "proxies")
            await act(one, "Exits")
            dialog = page.get_by_role("dialog")
            await expect(dialog).to_contain_text("192.0.2.77")
            await act(dialog, "Look now")
            await expect(dialog.get_by_role("status")).to_have_text("one leaves by 192.0.2.99")
            await expect(dialog.get_by_role("definition").last).to_contain_text("192.0.2.99")
            await page.keyboard.press("Escape")
            await show(page, "exits")
            await expect(main).not_to_contain_text("No echo is set")
            await act(one, "Look now")
            await expect(page.locator("#notices")).to_contain_text("one leaves by 192.0.2.99")
            await expect(one).to_contain_text(re.compile("192.0.2.99.*echo"))
            await act(two, "Look now")
            await expect(page.locator("#notices")).to_contain_text("no echo is set for ipv6")


async def test_suspicion_about_our_own_network_is_shown(browser: Browser, tmp_path: Path) -> None:
    async def suspect(route: Route) -> None:
        answer = await route.fetch()
        found = await answer.json()
        found["circuits"]["own_network"] = True
        await route.fulfill(json=found)

    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        banner = page.locator("#own-network")
        await expect(banner).to_be_hidden()
        await page.route("**/management/status", suspect)
        await expect(banner).to_contain_text("Own network?")
        assert await faults(page) == []
        await page.unroute("**/management/status")
        await expect(banner).to_be_hidden(timeout=15_000)


async def test_status_counts_what_left_apart_from_what_was_refused(
    browser: Browser, tmp_path: Path
) -> None:
    """Counted by outcome and by proxy; a flow whose proxy is dead did not leave by it."""
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.make("exit", host="127.0.0.1", port=proxy.port)
        await scene.make("dead", host="127.0.0.1", port=1)
        await scene.ask("POST", "/rules", hosts=["dead.test"], use="dead")
        await scene.ask("POST", "/rules", hosts=["refused.test"], use="refuse")
        await scene.ask("POST", "/rules", use="exit")
        for name in ("dead.test", "refused.test"):
            assert (await http_get(scene.mitm.port, f"http://{name}/")).status == 503
        assert (await http_get(scene.mitm.port, origin.url())).status == 200
        async with browser_page(browser) as page:
            await log_in(page, scene)
            await show(page, "status")

            def table(name: str) -> Locator:
                return page.get_by_role("table", name=name, exact=True).locator("tbody tr")

            await expect(table("Flows")).to_have_text([re.compile("Refused.*2"), "Proxy1"])
            await expect(table("Flows by proxy")).to_have_text(["exit1"])
            codes = [re.compile(f"{code}.*1") for code in ("PROXY_UNREACHABLE", "EGRESS_REFUSED")]
            await expect(table("Refusals")).to_have_text(codes)


async def test_status_shows_the_policy_in_force_and_settings_change_it(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await show(page, "status")
        main = page.get_by_role("main")
        for text in ("The policy is in force", "direct", "servers", str(tmp_path)):
            await expect(main).to_contain_text(text)
        await page.get_by_label("Default action").select_option("refuse")
        await page.get_by_label("URL for tests").fill("ftp://nowhere")
        await act(page, "Save")
        await expect(page.get_by_role("alert").filter(has_text="scheme")).to_be_visible()
        await page.get_by_label("URL for tests").fill("http://192.0.2.1/")
        await page.get_by_label("Echo URL for IPv6").fill("http://[2001:db8::1]:8088/")
        await act(page, "Save")
        await expect(main).to_contain_text("From the registry")
        settings = await scene.ask("GET", "/settings")
        echo = {"ipv4": None, "ipv6": "http://[2001:db8::1]:8088/"}
        assert settings == {"default": "refuse", "test_url": "http://192.0.2.1/", "echo": echo}


async def test_status_that_is_polled_waits_until_its_tab_is_there(
    browser: Browser, tmp_path: Path
) -> None:
    async def late(route: Route) -> None:
        await asyncio.gather(*(answer.value for answer in polled))
        await route.continue_()

    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.route("**/management/settings", late)
        await page.goto(f"{scene.url}#status")
        await page.get_by_label("Token").fill(scene.token)
        async with (
            page.expect_response("**/status") as one,
            page.expect_response("**/status") as two,
        ):
            polled = (one, two)
            await act(page, "Log in")
        await expect(page.get_by_role("main")).to_contain_text("Settings")


async def test_entries_of_the_policy_file_are_only_shown(browser: Browser, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nproxies: [{name: of-file, host: 192.0.2.9}]\n"
        "pools: [{name: file-pool, members: [of-file]}]\nrules: [{use: file-pool}]\n"
    )
    async with running(tmp_path, egress_policy=policy) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await expect(page.locator("#state")).to_have_text("The policy is in force")
        for tab in ("proxies", "rules", "pools"):
            await show(page, tab)
            found = page.locator("tbody tr").filter(has_text="Policy file, read-only")
            await expect(found).to_have_count(1)
            await expect(found.get_by_role("button", name=re.compile("Edit|Delete"))).to_have_count(
                0
            )
            await expect(found.get_by_role("switch")).to_have_count(0)


async def test_broken_edit_of_the_policy_file_is_shown(browser: Browser, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    async with running(tmp_path, egress_policy=policy) as scene, browser_page(browser) as page:
        policy.write_text("version: 1\nproxies: [{nam: exit}]\n")
        await scene.mitm.wait_for_log("unknown key")
        await log_in(page, scene)
        await expect(page.locator("#state")).to_contain_text("last edit is not in force")
        await page.locator("#state").click()
        await expect(page.get_by_role("main")).to_contain_text("proxies[0].nam: unknown key")
        broken = re.compile("last edit is not in force")
        await expect(page.locator(".state")).to_have_text([broken, broken])


async def test_edit_by_another_person_is_not_overwritten(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        id_ = await scene.make("exit")
        await log_in(page, scene)
        dialog = page.get_by_role("dialog")
        await act(row(page, "exit"), "Edit")
        await dialog.get_by_label("Region").fill("mine")
        await scene.ask("PATCH", "/proxies", id=id_, region="theirs", family="ipv4")
        await act(dialog, "Save")
        await expect(dialog).to_contain_text("Somebody else changed this")
        await act(dialog, "Load the current version")
        await expect(dialog).to_have_count(1)
        await expect(dialog.get_by_label("Region")).to_have_value("theirs")
        await dialog.get_by_label("Region").fill("mine")
        await act(dialog, "Save")
        await expect(dialog).to_have_count(0)
        found = await scene.proxy("exit")
        assert (found["region"], found["family"]) == ("mine", "ipv4")


async def test_session_that_ended_is_opened_again_and_nothing_typed_is_lost(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await act(page, "Add proxy")
        form = page.locator("dialog").first
        await form.get_by_label("Name", exact=True).fill("exit")
        await form.get_by_label("Host").fill("proxy.example.com")
        await page.context.clear_cookies()
        await act(form, "Save")
        await expect(page.locator("dialog").last).to_contain_text("The session has ended")
        await page.get_by_label("Token").fill(scene.token)
        await act(page.locator("dialog").last, "Log in")
        await expect(form).not_to_contain_text("token")
        await act(form, "Save")
        await expect(row(page, "exit")).to_be_visible()


async def test_outage_is_shown_and_ends_by_itself(browser: Browser, tmp_path: Path) -> None:
    async def cut(route: Route) -> None:
        await route.abort()

    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit")
        await log_in(page, scene)
        await show(page, "status")
        states = page.locator(".state")
        await expect(states).to_have_text(["The policy is in force"] * 2)
        await page.route("**/api/**", cut)
        await expect(states).to_have_text(["Unknown"] * 2)
        await show(page, "pools")
        await expect(page.locator("#outage")).to_contain_text("does not answer")
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        await page.unroute("**/api/**")
        await expect(page.locator("#outage")).to_be_hidden()
        await expect(page.get_by_role("main")).to_contain_text("No group yet")
        await expect(states).to_have_text(["The policy is in force"])


async def test_link_opens_the_page_once_and_leaves_the_address(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.goto(f"{scene.url}#not-a-word-that-was-given")
        await expect(page.get_by_role("main")).to_contain_text("This link has been used already")
        assert "word" not in page.url


async def test_file_leads_to_the_page_logged_in_and_is_gone_then(
    browser: Browser, tmp_path: Path
) -> None:
    async with serving(tmp_path) as scene, browser_page(browser) as page:
        file = scene.server.links.page()
        await page.goto(file.url)
        await page.get_by_role("tab", name="Proxy Pool").wait_for()
        assert page.url == f"{scene.server.url}#overview"
        assert not Path(file.url.removeprefix("file://")).exists()


async def test_session_outlives_a_reload_and_is_shared_by_the_tabs_of_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await page.reload()
        await page.get_by_role("tab", name="Proxy Pool").wait_for()
        second = await page.context.new_page()
        await second.goto(scene.url)
        await second.get_by_role("tab", name="Proxy Pool").wait_for()
        await page.close()
        third = await second.context.new_page()
        await third.goto(scene.url)
        await third.get_by_role("tab", name="Proxy Pool").wait_for()
        await second.close()
        alone = await third.context.new_page()
        await third.close()
        await log_in(alone, scene)  # no tab is left to ask
        await act(alone, "Log out")
        await expect(alone.get_by_label("Token")).to_be_visible()


async def test_tab_that_logs_in_while_another_is_open_does_not_end_its_session(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        second = await page.context.new_page()
        await second.add_init_script("BroadcastChannel.prototype.postMessage = () => {}")
        await log_in(second, scene)
        await show(page, "rules")
        await expect(page.get_by_role("main")).to_contain_text("No rule")


async def test_other_server_of_this_machine_gets_the_cookie_and_nothing_by_it(
    browser: Browser, tmp_path: Path
) -> None:
    async with Origin() as other, running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        tab = await page.context.new_page()
        await tab.goto(other.url())
        cookie = other.requests[0]["headers"]["cookie"]
        assert cookie.startswith(f"egress_session_{httpx.URL(scene.url).port}=")
        asked = """() => new Promise((resolve) => {
          const found = [];
          const channel = new BroadcastChannel("session-key");
          channel.onmessage = ({ data }) => found.push(data);
          channel.postMessage({});
          const seen = () => [sessionStorage.length, localStorage.length, found.length];
          setTimeout(() => resolve(seen()), 500);
        })"""
        assert await tab.evaluate(asked) == [0, 0, 0]
        async with httpx.AsyncClient(base_url=scene.url, trust_env=False) as client:
            for path in ("/api/v1/session", "/api/v1/management/flows/live"):
                answer = await client.get(path, headers={"Cookie": cookie})
                assert answer.status_code == 401


async def test_names_show_hidden_characters_and_reorder_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    name = "exit\u202egnp\u2066\u200b\ufeff"
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make(name, region="\u05d0\u05d1 \u202d7")
        await log_in(page, scene)
        named = page.locator("tr[data-name] strong")
        await expect(named).to_have_text("exit[U+202E]gnp[U+2066][U+200B][U+FEFF]")
        isolated = "(e) => getComputedStyle(e).unicodeBidi"
        assert await named.evaluate(isolated) == "isolate"
        await expect(page.locator("tr[data-name]")).to_contain_text("\u05d0\u05d1 [U+202D]7")
        unseen = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
        for place in ("#main", "#main [aria-label]", "#main [title]"):
            found = await page.locator(place).evaluate_all(
                "(all) => all.map((e) => `${e.innerText} ${e.title} ${e.ariaLabel}`).join()"
            )
            assert not unseen.search(found), place
        await act(page.locator("tr[data-name]"), "Edit")
        control = page.get_by_role("dialog").get_by_label("Name", exact=True)
        await expect(control).to_have_value(name)  # there it is as it is, to be changed


async def test_list_that_is_too_large_is_an_error(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await act(page, "Import")
        dialog = page.get_by_role("dialog")
        file = {"name": "list.txt", "mimeType": "text/plain", "buffer": (b"#" * 999 + b"\n") * 9000}
        await dialog.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
        await expect(dialog).to_contain_text("too large")


async def test_labels_change_with_the_language(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser, language="de") as page:
        await page.goto(scene.url)
        await page.get_by_label("Token").fill(scene.token)
        await act(page, "Anmelden")
        await expect(page.locator("#tab-rules")).to_have_text("Regeln")
        await show(page, "status")
        await page.locator("#language").select_option("zh-CN")
        await expect(page.locator("#tab-rules")).to_have_text("规则")
        await page.reload()
        await expect(page.locator("#tab-status")).to_have_attribute("aria-selected", "true")
        await expect(page.locator("#tab-rules")).to_have_text("规则")
        await expect(page).to_have_title("出口策略")


async def test_all_that_is_shown_is_a_label_or_data(browser: Browser, tmp_path: Path) -> None:
    async def marked(route: Route) -> None:
        labels = json.loads((MESSAGES / "en.json").read_text("utf-8"))
        await route.fulfill(json={key: f"«{text}»" for key, text in labels.items()})

    data = {
        "exit",
        "off",
        "of-file",
        "homes",
        "GET",
        "English",
        "HTTP",
        "HTTPS",
        "SOCKS5",
        "CSV",
        "JSON",
    }
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nproxies:\n  - {name: of-file, host: 192.0.2.9}\n")
    async with running(tmp_path, egress_policy=policy) as scene, browser_page(browser) as page:
        await scene.make("exit", family="ipv6", host="proxy.example.com")
        await scene.make("off", status="inactive")
        await scene.ask("POST", "/pools", name="homes", members=["exit"])
        await scene.ask("POST", "/rules", name="GET", hosts=["127.0.0.1"], use="homes")
        await page.route("**/messages/en.json", marked)
        await page.goto(scene.url)
        await page.locator("#token").fill(scene.token)
        await page.locator("form.login button").click()
        await expect(page.locator("#tab-proxies")).to_be_visible()
        opened = {"proxies": "#add-proxy", "rules": "#add-rule", "pools": "#add-pool"}
        for tab in TABS:
            await show(page, tab)
            await expect(page.get_by_role("main")).not_to_contain_text(re.compile("Loading"))
            if tab in opened:
                await page.locator(opened[tab]).click()
            texts: list[str] = await page.evaluate(_TEXTS)
            assert {text for text in texts if text not in data} == set(), tab
            await page.keyboard.press("Escape")


# What people see that is neither between the marks nor a place, path, number or code.
_TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const data = /[«»]|[\\d/@*]|^[^a-z]*$/i;
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (["NOSCRIPT", "CODE"].includes(node.parentElement.tagName)) continue;
    if (node.parentElement.closest("#language, datalist")) continue;
    if (!data.test(node.textContent)) found.push(node.textContent.trim());
  }
  return found;
}"""


async def test_page_knows_the_family_of_a_literal(browser: Browser, tmp_path: Path) -> None:
    vectors = load("ip_literal")
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.goto(scene.url)
        found = await page.evaluate(
            """async (hosts) => {
              const { literalFamily } = await import("/static/js/family.js");
              return hosts.map(literalFamily);
            }""",
            [one["in"] for one in vectors],
        )
    assert found == [one["out"] for one in vectors]


async def test_page_is_used_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit")
        await log_in(page, scene)
        await page.locator("#tab-proxies").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#tab-rules")).to_be_focused()
        await page.keyboard.press("End")
        await expect(page.locator("#tab-status")).to_be_focused()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#tab-overview")).to_be_focused()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#tab-proxies")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Search")).to_be_focused()
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        add = page.get_by_role("button", name="Add proxy")
        await add.press("Enter")
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_label("Name", exact=True)).to_be_focused()
        for _ in range(25):  # around and around, but never to what is behind
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.matches('body, dialog *')")
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await expect(add).to_be_focused()


async def test_colours_follow_the_system_unless_chosen(browser: Browser, tmp_path: Path) -> None:
    async def dark() -> bool:
        back = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", back)[0]) < 128

    async with running(tmp_path) as scene, browser_page(browser) as page:
        await page.emulate_media(color_scheme="dark")
        await page.goto(scene.url)
        assert await dark()
        await page.emulate_media(color_scheme="light")
        assert not await dark()
        await page.locator("#theme").select_option("dark")
        assert await dark()
        await page.reload()
        await expect(page.get_by_label("Token")).to_be_visible()
        assert await dark()


async def test_everybody_can_use_it(browser: Browser, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nproxies:\n  - {name: of-file, host: 192.0.2.9}\n")
    opened = {"proxies": "Edit: exit", "rules": "Add rule", "pools": "Edit: homes"}
    async with Origin() as origin, running(tmp_path, egress_policy=policy) as scene:
        await scene.make("exit", host="proxy.example.com", family="ipv6", region="eu")
        await scene.make("dead", host="127.0.0.1", port=1)
        await scene.make("off" + "-long" * 20, status="inactive")
        await scene.ask("POST", "/proxies/dead/test")
        members = ["exit", "dead", "off" + "-long" * 20]
        await scene.ask("POST", "/pools", name="homes", members=members, strategy="sticky")
        seen = [{"proxy": "exit", "address": "2001:db8:1:2:3:4:5:6"}]
        await scene.ask("POST", "/exits/observations", observations=seen)
        for _ in range(3):
            await scene.ask("POST", "/proxies/dead/test")
        await scene.ask("POST", "/rules", hosts=["*.example.org"], use="homes")
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        await scene.ask("PUT", "/proxies/assignments", scope="user", scopeId="a", proxyId="exit")
        await http_get(scene.mitm.port, origin.url())
        await http_get(scene.mitm.port, "http://refused.test/")
        for width in (1400, 800, 380):
            async with browser_page(browser, width) as page:
                await page.goto(scene.url)
                for theme in ("light", "dark"):
                    await page.locator("#theme").select_option(theme)
                    assert await faults(page) == []
                await log_in(page, scene)
                for theme in ("light", "dark"):
                    await page.locator("#theme").select_option(theme)
                    for tab in TABS:
                        await show(page, tab)
                        await expect(page.get_by_role("main")).not_to_contain_text("Loading")
                        if tab == "proxies":
                            await page.get_by_label("Select exit").check()
                        if tab == "rules":
                            await page.get_by_label("URL").fill("http://refused.test/")
                            await act(page, "Explain")
                            await expect(page.locator("#explanation")).to_contain_text("Refused")
                        if tab == "live":
                            await expect(page.locator("tr.refused")).to_be_visible()
                        assert await faults(page) == [], (tab, theme)
                        await keep(page, f"{tab}-{width}-{theme}")
                        if tab in opened:
                            await act(page, opened[tab])
                            await expect(page.get_by_role("dialog")).to_be_visible()
                            assert await faults(page) == [], (tab, theme)
                            await keep(page, f"{tab}-form-{width}-{theme}")
                            await page.keyboard.press("Escape")
                        if tab == "pools":
                            await act(page, "Members: homes")
                            await expect(row(page, "dead")).to_contain_text("Open: not used")
                            await row(page, "dead").locator("summary").click()
                            await expect(
                                row(page, "dead").get_by_role("listitem").first
                            ).to_be_visible()
                            assert await faults(page) == [], ("members", theme)
                            await keep(page, f"members-{width}-{theme}")
