"""The Rules tab in a real browser: one list of all that decides, and what is changed there."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import act, log_in, running, show
from tests.helpers.clients import http_get
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
POLICY = """\
version: 1
proxies: [{name: of-file, host: 192.0.2.9}]
rules:
  - {name: office, hosts: ["*.example.org"], use: of-file}
  - {hosts: [127.0.0.1], clients: [192.0.2.0/24], use: refuse}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


async def test_all_that_decides_is_one_list_with_what_it_decided(
    browser: Browser, tmp_path: Path
) -> None:
    """From the policy file, assignments, the registry and the default, in the order that holds."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    async with (
        Origin() as origin,
        Socks5Proxy() as proxy,
        running(tmp_path, egress_policy=policy) as scene,
        browser_page(browser) as page,
    ):

        async def ask(host: str, status: int) -> None:
            url = f"http://{host}:{origin.port}/"
            assert (await http_get(scene.mitm.port, url)).status == status

        await scene.make("exit", host="127.0.0.1", port=proxy.port)
        for scope, which in (("global", None), ("host", "localhost")):
            named = {"scope": scope, "scopeId": which}
            await scene.ask("PUT", "/proxies/assignments", **named, proxyId="exit", group="a")
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        await scene.ask("POST", "/rules", name="lost", hosts=["www.example.org"], use="exit")
        await log_in(page, scene)
        await show(page, "rules")
        rows = page.get_by_role("table", name="Rules").locator("tbody tr")
        await expect(rows).to_have_text(
            [
                re.compile(r"1office.*Policy file.*\*\.example\.org.*of-file0"),
                re.compile(r"2file #2.*Policy file.*127\.0\.0\.1 192\.0\.2\.0/24.*refuse0"),
                re.compile("3Host localhost.*Assignment.*localhost.*exit.*Separation label: a0"),
                re.compile("4no.*Registry.*refused.test.*refuse0"),
                re.compile("5lost.*Registry.*Never matches.*before it: office.*exit0"),
                re.compile(
                    "6Everything else.*Global assignment.*everything.*exit.*Separation label: a0"
                ),
                re.compile("7Default action.*From the option.*Never matches.*: Everything else"),
            ]
        )
        await ask("127.0.0.1", 200)
        await ask("127.0.0.1", 200)
        await ask("refused.test", 503)
        await expect(rows.nth(5)).to_contain_text(
            re.compile(r"exitSeparation label: a2\d+:\d\d"), timeout=15_000
        )
        await expect(rows.nth(3)).to_contain_text(re.compile(r"refuse1\d+:\d\d"))
        await page.get_by_label("URL").fill(f"http://127.0.0.1:{origin.port}/")
        await act(page, "Explain")
        explanation = page.locator("#explanation")
        await expect(explanation).to_contain_text(re.compile("global.*exit"))
        tried = await explanation.locator("tbody tr td:first-child").all_inner_texts()
        labels = [one["label"] for one in (await scene.ask("GET", "/rules/order"))["items"]]
        assert tried == labels[: len(tried)]
        await keep(page, "rules-in-order")
        await page.get_by_label("Search").fill("example.org")
        await expect(rows).to_contain_text(["office", "lost"])


async def test_default_is_changed_where_it_is_listed(browser: Browser, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    async with running(tmp_path, egress_policy=policy) as scene, browser_page(browser) as page:
        await scene.ask("PUT", "/settings", test_url="http://192.0.2.1/")
        await log_in(page, scene)
        await show(page, "rules")
        main, dialog = page.get_by_role("main"), page.get_by_role("dialog")
        default = main.locator("tbody tr").last
        await expect(main).to_contain_text("No rule yet: every flow takes the default.")
        await expect(default).to_contain_text(re.compile("From the option.*direct"))
        await act(page, "Edit: Default action")
        await dialog.get_by_label("Default action").select_option("refuse")
        await act(dialog, "Save")
        await expect(default).to_contain_text(re.compile("From the registry.*refuse"))
        settings = await scene.ask("GET", "/settings")
        assert (settings["default"], settings["test_url"]) == ("refuse", "http://192.0.2.1/")
        policy.write_text("version: 1\ndefault: direct\n")
        await expect(default).to_contain_text(re.compile("From the policy file.*direct"))
        await expect(default.get_by_role("button")).to_have_count(0)


async def test_rules_in_hand_are_not_drawn_anew(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        await page.clock.install()
        await log_in(page, scene)
        await show(page, "rules")
        first = page.get_by_role("table", name="Rules").locator("tbody tr").first
        await expect(first).to_contain_text("refused.test")
        drawn = await first.element_handle()
        assert drawn is not None

        async def poll() -> None:
            async with page.expect_response("**/rules/order?*"):
                await page.clock.fast_forward(5000)
            await page.evaluate("() => new Promise(requestAnimationFrame)")

        await first.get_by_role("button", name="Edit").focus()
        await poll()
        assert await drawn.evaluate("(row) => row.isConnected")  # nothing has changed
        await drawn.evaluate("(row) => getSelection().selectAllChildren(row)")
        assert (await http_get(scene.mitm.port, "http://refused.test/")).status == 503
        await poll()
        assert await drawn.evaluate("(row) => row.isConnected")
        await drawn.evaluate("(row) => row.classList.add('dragged')")
        await page.evaluate("getSelection().empty()")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        async with page.expect_response("**/status"):
            await page.clock.fast_forward(5000)
        assert not any("/rules/order" in url for url in asked)
        await drawn.evaluate("(row) => row.classList.remove('dragged')")
        await first.get_by_role("button", name="Edit").focus()
        await poll()
        await expect(first).to_contain_text(re.compile("refuse1"))
        await expect(first.get_by_role("button", name="Edit")).to_be_focused()


async def test_everybody_can_use_it(browser: Browser, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    long = "exit" + "-long" * 15
    async with running(tmp_path, egress_policy=policy) as scene:
        await scene.make(long)
        host = {"scope": "host", "scopeId": "*.far.example.org"}
        await scene.ask("PUT", "/proxies/assignments", **host, proxyId=long)
        await scene.ask("POST", "/rules", hosts=["*.example.org", "*.example.net"], use=long)
        await scene.ask("POST", "/rules", name="no", ports=[25], filter="~m POST", use="refuse")
        await scene.ask("POST", "/rules", name="lost " * 20, ports=[25], filter="~d a", use=long)
        for width in (1400, 800, 380):
            async with browser_page(browser, width) as page:
                await log_in(page, scene)
                await show(page, "rules")
                for theme in ("light", "dark"):
                    await page.locator("#theme").select_option(theme)
                    await expect(page.get_by_role("main")).to_contain_text("Never matches")
                    assert await faults(page) == [], theme
                    await keep(page, f"rules-list-{width}-{theme}")
                await page.get_by_role("button", name="Edit: Default action").focus()
                await page.keyboard.press("Enter")
                await expect(page.get_by_role("dialog").get_by_label("Default")).to_be_focused()
                assert await faults(page) == []
                await page.keyboard.press("Escape")
                await expect(
                    page.get_by_role("button", name="Edit: Default action")
                ).to_be_focused()


async def test_rules_are_made_ordered_and_explained(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("exit")
        await log_in(page, scene)
        await show(page, "rules")
        dialog = page.get_by_role("dialog")
        for name, use in (("first", "exit"), ("second", "refuse")):
            await act(page, "Add rule")
            await dialog.get_by_label("Name", exact=True).fill(name)
            await dialog.get_by_label("Hosts").fill("*.example.org")
            await dialog.get_by_label("Uses").fill(use)
            await act(dialog, "Save")
            await expect(dialog).to_have_count(0)
        explanation = page.locator("#explanation")
        await page.get_by_label("URL").fill("https://www.example.org/")
        await act(page, "Explain")
        await expect(explanation).to_contain_text("exit (socks5://192.0.2.1:1080")
        await act(page, "Move second up")
        rows = page.locator("tr[draggable]")
        await expect(rows.first).to_contain_text("second")
        await act(page, "Explain")
        await expect(explanation).to_contain_text("EGRESS_REFUSED rule")
        await rows.nth(1).drag_to(rows.nth(0))
        await expect(rows.first).to_contain_text("first")
        await act(page, "Edit: first")
        await dialog.get_by_label("Ports").fill("none")
        await act(dialog, "Save")
        await expect(dialog.locator("[name=ports]")).to_have_attribute("aria-invalid", "true")
        await dialog.get_by_label("Ports").fill("443, 8443")
        await dialog.get_by_label("Uses").fill("direct")
        await dialog.get_by_label("IP family (with direct)").select_option("ipv6")
        await act(dialog, "Save")
        await expect(rows.first).to_contain_text(re.compile(r":443 :8443.*direct.*IPv6 only"))
        await act(page, "Delete: second")
        await act(dialog, "Delete")
        await expect(rows).to_have_count(1)
        [rule] = (await scene.ask("GET", "/rules"))["items"]
        assert (rule["ports"], rule["use"], rule["family"]) == ([443, 8443], "direct", "ipv6")


async def test_rule_is_moved_over_the_edge_of_a_page(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        for number in range(51):
            await scene.ask(
                "POST", "/rules", name=f"r{number:02}", hosts=["a.example"], use="refuse"
            )
        await log_in(page, scene)
        await show(page, "rules")
        rows = page.locator("tr[draggable]")
        await act(page, "Move r49 down")
        await expect(rows.last).to_contain_text("r50")
        await act(page, "Next page")
        await expect(rows).to_contain_text(["r49"])
        await act(page, "Move r49 up")
        await expect(rows).to_contain_text(["r50"])
        last = await scene.ask("GET", "/rules?limit=2&offset=49")
        assert [one["name"] for one in last["items"]] == ["r49", "r50"]


async def test_scopes_are_assigned_changed_and_cleared(browser: Browser, tmp_path: Path) -> None:
    async def assigned() -> list[tuple[str, str]]:
        found = await scene.ask("GET", "/proxies/assignments")
        return [(one["scope"], one["proxy"]) for one in found["items"]]

    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.make("one")
        await scene.make("two")
        await log_in(page, scene)
        await show(page, "rules")
        dialog = page.get_by_role("dialog")
        for scope, which in (("client", "192.0.2.0/24"), ("global", "")):
            await act(page, "Assign")
            await dialog.get_by_label("Scope").select_option(scope)
            if which:
                await dialog.get_by_label("Applies to").fill(which)
            await dialog.get_by_label("Proxy").fill("one")
            await act(dialog, "Assign")
            await expect(dialog).to_have_count(0)
        assert sorted(await assigned()) == [("client", "one"), ("global", "one")]
        await act(page, "Edit: Client 192.0.2.0/24")
        await dialog.get_by_label("Proxy").fill("two")
        await dialog.get_by_label("Separation label").fill("shop")
        await act(dialog, "Assign")
        await expect(dialog).to_have_count(0)
        await expect(page.get_by_role("main")).to_contain_text(re.compile("two.*shop"))
        await act(page, "Edit: Client 192.0.2.0/24")
        await expect(dialog.get_by_label("Separation label")).to_have_value("shop")
        await page.keyboard.press("Escape")
        await act(page, "Clear: Everything else")
        await act(dialog, "Clear")
        await expect(dialog).to_have_count(0)
        assert await assigned() == [("client", "two")]
