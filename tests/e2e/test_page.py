"""The page in a real browser, before a real mitmdump, while real traffic flows."""

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.e2e.browser import browser_page, faults, keep
from tests.helpers.clients import http_get
from tests.helpers.mitm import Mitmdump
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy

pytestmark = pytest.mark.e2e
TABS = ("proxies", "rules", "pools", "live", "status")
SECRET = "hush-hush-7"


@dataclass
class Scene:
    url: str
    token: str
    mitm: Mitmdump

    async def ask(self, method: str, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False) as client:
            answer = await client.request(
                method, f"/api/v1/management{path}", json=body if method != "GET" else None
            )
            answer.raise_for_status()
            return answer.json()

    async def make(self, name: str, **fields: Any) -> None:
        stated = {"name": name, "type": "socks5", "host": "192.0.2.1", "port": 1080, **fields}
        await self.ask("POST", "/proxies", **stated)


@contextlib.asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Scene]:
    place: dict[str, Any] = {
        "egress_registry": str(folder / "egress.db"),
        "egress_listen": "127.0.0.1:0",
    }
    token = folder / "egress-token"
    mitm = Mitmdump(folder / "conf", egress_token_file=token, **place, **options)
    async with mitm:
        url = (await mitm.wait_for_log(r"page: (http\S+/)"))[1]
        yield Scene(url, token.read_text().strip(), mitm)


async def log_in(page: Page, scene: Scene) -> None:
    await page.goto(scene.url)
    await page.get_by_label("Token").fill(scene.token)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("tab", name="Proxy Pool").wait_for()


async def show(page: Page, tab: str) -> None:
    await page.locator(f"#tab-{tab}").click()
    await expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")


async def test_wrong_token_is_said_and_the_right_one_opens(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page() as page:
        await page.goto(scene.url)
        await page.get_by_label("Token").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not the right one")
        await log_in(page, scene)
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_proxy_is_added_pinned_tested_and_deleted(tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.ask("PUT", "/settings", test_url=origin.url())
        async with browser_page() as page:
            await log_in(page, scene)
            await page.get_by_role("button", name="Add proxy").click()
            dialog = page.get_by_role("dialog")
            await dialog.get_by_label("Name", exact=True).fill("exit")
            await dialog.get_by_label("Type").select_option("socks5")
            await expect(dialog.get_by_label("Port")).to_have_value("1080")
            await dialog.get_by_label("Host").fill("127.0.0.1")
            await dialog.get_by_label("Port").fill(str(proxy.port))
            await dialog.locator("[name=family]").select_option("ipv6")
            await expect(dialog.locator("#family-warning")).to_contain_text("other family")
            await dialog.get_by_role("button", name="Save").click()
            await expect(dialog).to_contain_text("contradicts IPv4 literal host")
            await dialog.locator("[name=family]").select_option("ipv4")
            await expect(dialog.locator("#family-warning")).to_be_empty()
            await dialog.get_by_role("button", name="Save").click()
            row = page.locator("tr[data-name=exit]")
            await expect(row).to_contain_text("IPv4 only")
            await row.get_by_role("button", name="Test").click()
            await expect(row).to_contain_text("handshake")
            await row.get_by_role("button", name="Disable").click()
            await expect(row).to_contain_text("Inactive")
            await row.get_by_role("button", name="Enable").click()
            await row.get_by_role("button", name="Edit").click()
            await dialog.get_by_label("Host").fill("proxy.example.com")
            await dialog.locator("[name=family]").select_option("ipv6")
            await dialog.get_by_role("button", name="Save").click()
            await expect(row).to_contain_text("IPv6 only")
            assert (await scene.ask("GET", "/proxies"))["items"][0]["family"] == "ipv6"
            await row.get_by_role("button", name="Delete").click()
            await dialog.get_by_role("button", name="Delete").click()
            await expect(row).to_have_count(0)
    assert proxy.accepted == 1


async def test_proxy_in_use_is_deleted_after_its_users_were_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page() as page:
        await scene.make("exit")
        await scene.ask("POST", "/rules", name="my rule", use="exit")
        await log_in(page, scene)
        await page.locator("tr[data-name=exit]").get_by_role("button", name="Delete").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("In use by: my rule")
        await dialog.get_by_role("button", name="Delete all the same").click()
        await show(page, "rules")
        await expect(page.get_by_role("main")).to_contain_text("refusing to egress")


async def test_list_is_previewed_then_imported(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page() as page:
        await log_in(page, scene)
        await page.get_by_role("button", name="Import").click()
        dialog = page.get_by_role("dialog")
        lines = f"socks5://u:{SECRET}@192.0.2.1:1080#one\nnonsense\n"
        await dialog.get_by_role("textbox").fill(lines)
        await dialog.get_by_role("button", name="Import").click()
        await expect(dialog).to_contain_text("1 created, 0 skipped, 1 failed")
        await expect(dialog).to_contain_text("Line 2:")
        assert (await scene.ask("GET", "/proxies"))["page"]["total"] == 0
        await dialog.get_by_role("button", name="Import").click()
        await expect(page.locator("tr[data-name=one]")).to_be_visible()
        assert SECRET not in await page.content()


async def test_many_are_searched_filtered_and_changed_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page() as page:
        for name, family in (("one", "ipv4"), ("two", "ipv6"), ("three", "auto")):
            await scene.make(name, host=f"{name}.example", family=family)
        await log_in(page, scene)
        await page.get_by_label("IP family").select_option("ipv6")
        await expect(page.locator("tr[data-name]")).to_have_count(1)
        await page.get_by_label("IP family").select_option("")
        await page.get_by_label("Search").fill("THREE")
        await expect(page.locator("tr[data-name]")).to_have_count(1)
        await page.get_by_label("Search").fill("")
        await expect(page.locator("tr[data-name]")).to_have_count(3)
        await page.get_by_role("button", name="Name").click()
        await expect(page.locator("tr[data-name]").first).to_contain_text("two")
        await page.get_by_label("Select one").check()
        await page.get_by_label("Select two").check()
        group = page.get_by_role("group", name="Selected proxies")
        await group.get_by_role("button", name="Disable").click()
        await expect(page.locator("#notices")).to_contain_text("2 of 2 done")
        items = (await scene.ask("GET", "/proxies"))["items"]
        inactive = sorted(one["name"] for one in items if one["status"] == "inactive")
        assert inactive == ["one", "two"]


async def test_rules_are_made_ordered_and_explained(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page() as page:
        await scene.make("exit")
        await log_in(page, scene)
        await show(page, "rules")
        dialog = page.get_by_role("dialog")
        for name, use in (("first", "exit"), ("second", "refuse")):
            await page.get_by_role("button", name="Add rule").click()
            await dialog.get_by_label("Name", exact=True).fill(name)
            await dialog.get_by_label("Hosts").fill("*.example.org")
            await dialog.get_by_label("Uses").select_option(use)
            await dialog.get_by_role("button", name="Save").click()
            await expect(dialog).to_have_count(0)
        await page.get_by_label("URL").fill("https://www.example.org/")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.locator("#explanation")).to_contain_text("exit (socks5://192.0.2.1:1080")
        await page.get_by_role("button", name="Move second up").click()
        await expect(page.locator("tr[draggable]").first).to_contain_text("second")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.locator("#explanation")).to_contain_text("Refused: EGRESS_REFUSED rule")
        rows = page.locator("tr[draggable]")
        await rows.nth(1).drag_to(rows.nth(0))
        await expect(page.locator("tr[draggable]").first).to_contain_text("first")
        await keep(page, "rules")


async def test_pools_are_made(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page() as page:
        await scene.make("one")
        await log_in(page, scene)
        await show(page, "pools")
        await page.get_by_role("button", name="Add pool").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("homes")
        await dialog.get_by_label("Add a member").select_option("one")
        await dialog.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("main")).to_contain_text("round-robin")
        await keep(page, "pools")


async def test_live_view_shows_traffic_as_it_flows(tmp_path: Path) -> None:
    async with Origin() as origin, running(tmp_path) as scene, browser_page() as page:
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        await log_in(page, scene)
        await show(page, "live")
        assert (await http_get(scene.mitm.port, origin.url())).status == 200
        await expect(page.locator("#flows")).to_contain_text(f"127.0.0.1:{origin.port}")
        assert (await http_get(scene.mitm.port, "http://refused.test/")).status == 503
        refused = page.locator("tr.refused")
        await expect(refused).to_contain_text("Refused: rule")
        await page.get_by_role("button", name="Pause").click()
        assert (await http_get(scene.mitm.port, "http://refused.test/")).status == 503
        await page.get_by_role("button", name="Resume").click()
        await expect(refused).to_have_count(2)
        await page.get_by_label("Search").fill("refused.test")
        await expect(page.locator("#flows tbody tr")).to_have_count(2)
        await keep(page, "live")


async def test_labels_change_with_the_language(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(language="de") as page:
        await page.goto(scene.url)
        await page.get_by_label("Token").fill(scene.token)
        await page.get_by_role("button", name="Anmelden").click()
        await expect(page.locator("#tab-rules")).to_have_text("Regeln")
        await page.locator("#language").select_option("zh-CN")
        await expect(page.locator("#tab-rules")).to_have_text("规则")
        await page.reload()
        await expect(page.locator("#tab-rules")).to_have_text("规则")


async def test_tabs_are_used_by_keyboard(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page() as page:
        await log_in(page, scene)
        await page.locator("#tab-proxies").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#tab-rules")).to_be_focused()
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator("#tab-status")).to_be_focused()
        await page.locator("#tab-proxies").click()
        await page.get_by_role("button", name="Add proxy").press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.get_by_role("button", name="Add proxy")).to_be_focused()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
async def test_everybody_can_use_it(tmp_path: Path, width: int, theme: str) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nproxies:\n  - {name: of-file, host: 192.0.2.9}\n")
    async with Origin() as origin, running(tmp_path, egress_policy=policy) as scene:
        await scene.make("exit", host="proxy.example.com", family="ipv6", region="eu")
        await scene.make("off", status="inactive")
        await scene.ask("POST", "/pools", name="homes", members=["exit"])
        await scene.ask("POST", "/rules", hosts=["*.example.org"], use="homes")
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        async with browser_page(width) as page:
            await page.goto(scene.url)
            await page.locator("#theme").select_option(theme)
            assert await faults(page) == []
            await log_in(page, scene)
            await http_get(scene.mitm.port, origin.url())
            await http_get(scene.mitm.port, "http://refused.test/")
            for tab in TABS:
                await show(page, tab)
                await expect(page.get_by_role("main")).not_to_contain_text(re.compile("Loading"))
                await keep(page, f"{tab}-{width}-{theme}")
                assert await faults(page) == [], tab
            await show(page, "proxies")
            await page.locator("tr[data-name=exit]").get_by_role("button", name="Edit").click()
            await keep(page, f"form-{width}-{theme}")
            assert await faults(page) == []
