"""The Live tab as a workbench: flows as they end, one opened, and another way out for its host."""

import asyncio
import itertools
import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Route, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.page import PageServer, act, log_in, running, show
from tests.helpers.clients import http_get
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
HUSH = "token=hush-hush-7"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


async def open_live(page: Page, scene: PageServer) -> None:
    await log_in(page, scene)
    await show(page, "live")
    await expect(page.get_by_text("Connected")).to_be_visible()


async def test_flows_are_shown_as_they_end(browser: Browser, tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.make("exit", host="127.0.0.1", port=proxy.port, family="ipv4")
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        await scene.ask("POST", "/rules", name="by exit", hosts=["127.0.0.1"], use="exit")
        async with browser_page(browser) as page:
            await open_live(page, scene)
            rows, refused = page.locator("#flows tbody tr"), page.locator("tr.refused")
            where = f":{scene.mitm.port} http://example.com/"
            await expect(rows).to_contain_text(re.compile(rf"curl -x \S+{re.escape(where)}"))
            assert (await http_get(scene.mitm.port, origin.url(path="/a?b=1"))).status == 200
            hop = f"127.0.0.1:{proxy.port}"
            taken = (
                rf"GET.*127.0.0.1:{origin.port}/a\?b=1.*200.*exit.*{hop}.*IPv4 only.*ms.*↓ \d+\sB"
            )
            await expect(rows.first).to_contain_text(re.compile(taken))
            await rows.first.evaluate("(row) => { row.kept = true; }")
            assert (await http_get(scene.mitm.port, "http://refused.test/")).status == 503
            await expect(refused).to_contain_text("Refused: ruleA rule says so")
            assert await rows.nth(1).evaluate("(row) => row.kept")
            await act(page, "Pause")
            assert (await http_get(scene.mitm.port, "http://refused.test/")).status == 503
            await expect(page.locator("#flows")).to_contain_text("1 since the pause")
            await expect(refused).to_have_count(1)
            await act(page, "Resume")
            await expect(refused).to_have_count(2)
            await page.get_by_label("Search").fill("by EXIT 200")
            await expect(rows).to_have_count(1)
            await page.get_by_label("Search").fill("nowhere")
            await expect(rows).to_have_text("Nothing matches the search and the filters")
            await page.get_by_label("Search").fill("")
            await page.get_by_label("Result").select_option("refused")
            await expect(rows).to_have_count(2)
            for status, kind in ((201, "good"), (404, "warn"), (502, "bad")):
                await http_get(scene.mitm.port, origin.url(path=f"/status/{status}"))
                await page.get_by_label("Result").select_option("proxy")
                shown = rows.first.get_by_text(str(status), exact=True)
                await expect(shown).to_have_class(f"badge {kind}")
            await act(page, "Clear the list")
            await expect(rows).to_have_count(1)


def drawer(page: Page) -> Locator:
    return page.get_by_role("region", name="Flow", exact=True)


async def test_flow_is_opened_and_read_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.make("exit", host="127.0.0.1", port=proxy.port, family="ipv4")
        await scene.ask("POST", "/rules", name="by exit", hosts=["127.0.0.1"], use="exit")
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        assert (await http_get(scene.mitm.port, origin.url(path="/a?b=1"))).status == 200
        assert (await http_get(scene.mitm.port, "http://refused.test/")).status == 503
        async with browser_page(browser) as page:
            await open_live(page, scene)
            flow, stops = drawer(page), page.locator("#flows tbody button")
            await expect(flow).to_be_hidden()
            await page.get_by_role("region", name="Live").focus()
            await page.keyboard.press("Tab")
            await expect(stops.nth(0)).to_be_focused()
            await page.keyboard.press("Enter")
            await expect(flow).to_contain_text(re.compile("No times were measured.*Refused.*rule"))
            await expect(flow).to_contain_text(re.compile("EGRESS_REFUSED rule.*no.*Matched"))
            await expect(stops.nth(0)).to_be_focused()
            await expect(stops.nth(0)).to_have_attribute("aria-expanded", "true")
            await page.keyboard.press("ArrowDown")
            await expect(stops.nth(1)).to_be_focused()
            url = f"http://127.0.0.1:{origin.port}/a?b=1"
            await expect(flow).to_contain_text(url)
            parts = flow.locator(".timeline dt")
            await expect(parts).to_have_text(["connect", "handshake", "first byte", "answer"])
            took = flow.locator(".timeline dd")
            await expect(took).to_have_text([re.compile(r"^[\d.]+\sms$")] * 4)
            bars = await flow.locator(".timeline rect").evaluate_all(
                "(all) => all.map((one) => [parseFloat(one.getAttribute('x')),"
                " parseFloat(one.getAttribute('width'))])"
            )
            assert all(early[0] <= late[0] for early, late in itertools.pairwise(bars))
            assert (bars[0][0], sum(bars[-1])) == (0, pytest.approx(100, abs=1))
            record = rf"Egress.*exit.*127.0.0.1:{proxy.port}.*IPv4 only.*Rule.*by exit.*Received"
            await expect(flow.locator("dl.facts")).to_contain_text(re.compile(record))
            await expect(flow).to_contain_text(f"exit (socks5://127.0.0.1:{proxy.port})")
            await page.keyboard.press("Tab")  # past the other rows
            await expect(flow.get_by_role("button", name="Close")).to_be_focused()
            await page.keyboard.press("Escape")
            await expect(flow).to_be_hidden()
            await expect(stops.nth(1)).to_be_focused()
            await page.locator("#flows tbody tr").nth(0).locator("td.way").click()
            await expect(flow).to_contain_text("refused.test")
            await page.keyboard.press("Escape")
            await expect(flow).to_be_hidden()


async def test_host_is_routed_refused_and_put_back(browser: Browser, tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        await scene.make("exit", host="127.0.0.1", port=proxy.port)
        await scene.ask("POST", "/pools", name="homes", members=["exit"])
        port, url, host = scene.mitm.port, origin.url(), "127.0.0.1"
        assert (await http_get(port, url)).status == 200
        assert proxy.accepted == 0
        async with browser_page(browser) as page:
            await open_live(page, scene)
            await page.locator("#flows tbody button").first.press("Enter")
            flow, dialog = drawer(page), page.get_by_role("dialog")
            await act(flow, "Route this host via …")
            await expect(page.locator("datalist option[value=homes]")).to_have_count(1)
            await dialog.get_by_label("Uses").fill("nowhere")
            await act(dialog, "Route")
            await expect(dialog).to_contain_text("nowhere")
            await dialog.get_by_label("Uses").fill("homes")
            await act(dialog, "Route")
            await expect(dialog).to_have_count(0)
            said = flow.get_by_role("status")
            await expect(said).to_contain_text(f"{host} leaves by homes")
            await expect(said).to_contain_text("before: direct")
            await expect(flow).to_contain_text(f"exit (socks5://127.0.0.1:{proxy.port})")
            assert (await http_get(port, url)).status == 200
            assert proxy.accepted == 1
            await expect(page.locator("#flows tbody tr").first).to_contain_text("exit · homes")
            await keep(page, "live-steered")
            await page.set_viewport_size({"width": 1400, "height": 300})
            await said.get_by_role("button").scroll_into_view_if_needed()
            place = await page.evaluate("scrollY")
            await act(said, "Undo")
            await expect(said).to_contain_text(f"Taken back: {host}: homes")
            await expect(flow).to_be_focused()
            assert await page.evaluate("scrollY") == place
            assert (await http_get(port, url)).status == 200
            assert proxy.accepted == 1
            await act(flow, "Refuse this host")
            await expect(said).to_contain_text(f"{host} is refused from now on")
            assert (await http_get(port, url)).status == 503
            await act(flow, "Follow the rules again")
            await expect(said).to_contain_text("leaves by direct (default) from now on")
            await expect(flow.get_by_role("button", name="Follow the rules")).to_have_count(0)
            assert (await http_get(port, url)).status == 200


async def test_rule_that_comes_before_is_named(browser: Browser, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules: [{name: of-file, hosts: [x.test], use: refuse}]\n")
    async with running(tmp_path, egress_policy=policy) as scene, browser_page(browser) as page:
        assert (await http_get(scene.mitm.port, "http://x.test/")).status == 503
        await open_live(page, scene)
        await page.locator("#flows tbody button").first.click()
        await act(drawer(page), "Refuse this host")
        said = drawer(page).get_by_role("status")
        await expect(said).to_contain_text("Saved, but an earlier rule still decides: of-file")


async def test_flow_is_repeated_by_the_command_that_is_copied(
    browser: Browser, tmp_path: Path
) -> None:
    """The command runs in a shell, goes through the exit, and has no account in it."""
    async with (
        Origin() as origin,
        Socks5Proxy(credentials=("u", "hush")) as proxy,
        running(tmp_path) as scene,
        browser_page(browser) as page,
    ):
        account = {"username": "u", "password": "hush"}
        await scene.make("exit", host="127.0.0.1", port=proxy.port, family="ipv4", **account)
        await scene.ask("POST", "/rules", use="exit")
        path = "/it's?q=$(id)&r=[1-3]{a}"
        assert (await http_get(scene.mitm.port, origin.url(path=path))).status == 200
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await open_live(page, scene)
        await page.locator("#flows tbody button").first.click()
        await act(drawer(page), "Copy as curl")
        said = drawer(page).get_by_role("status")
        await expect(said).to_contain_text("add --proxy-user")
        command = await said.get_by_label("Copied").input_value()
        assert command == await page.evaluate("navigator.clipboard.readText()")
        assert "hush" not in command
        assert shlex.split(command)[:5] == [
            *("curl", "--globoff", "-4"),
            *("--proxy", f"socks5h://127.0.0.1:{proxy.port}"),
        ]
        run = await asyncio.create_subprocess_shell(
            f"{command} --silent --max-time 10 --proxy-user u:hush",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await run.communicate()
        assert json.loads(out)["path"] == path.replace("{", "%7B").replace("}", "%7D")
        assert proxy.accepted == 2


async def test_only_flows_that_have_a_value_are_shown(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.ask("PUT", "/settings", default="refuse")
        for name in ("one.test", "two.test", "one.test"):
            assert (await http_get(scene.mitm.port, f"http://{name}/")).status == 503
        await open_live(page, scene)
        rows, chips = page.locator("#flows tbody tr"), page.get_by_role("group", name="only these")
        await expect(rows).to_have_count(3)
        await expect(chips).to_be_hidden()
        await page.locator("#flows tbody button").first.click()
        await act(drawer(page), "Show only these: one.test")
        await expect(rows).to_have_count(2)
        await expect(chips).to_have_text(re.compile("Host: one.test"))
        await act(drawer(page), "Show only these: default")
        await expect(chips.get_by_role("button")).to_have_count(2)
        await chips.get_by_role("button", name="Host: one.test").click()
        await expect(rows).to_have_count(3)
        await chips.get_by_role("button").click()
        await expect(chips).to_be_hidden()


async def test_queries_are_hidden_on_the_wire_too_and_that_is_remembered(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await scene.ask("PUT", "/settings", default="refuse")
        assert (await http_get(scene.mitm.port, f"http://x.test/a?{HUSH}")).status == 503
        await open_live(page, scene)
        rows, switch = page.locator("#flows tbody tr"), page.get_by_role("switch")
        await expect(rows).to_contain_text(f"/a?{HUSH}")
        await rows.get_by_role("button").click()
        await expect(drawer(page)).to_contain_text(HUSH)
        async with page.expect_request("**/flows/live?queries=0"):
            await switch.check()
        assert (await http_get(scene.mitm.port, f"http://x.test/b?{HUSH}")).status == 503
        await expect(rows).to_have_count(2)
        assert HUSH not in await page.content()
        async with page.expect_request("**/flows/live?queries=0"):
            await page.reload()
        await expect(rows.first).to_contain_text("x.test/b")
        await expect(switch).to_be_checked()
        assert HUSH not in await page.content()
        await switch.uncheck()
        await expect(rows.first).to_contain_text(HUSH)


def flow_event(seq: int, **fields: Any) -> str:
    """An event of the live view that says the least there is to say."""
    texts = dict.fromkeys(("method", "scheme", "path", "proxy", "pool", "strategy"), "")
    texts |= dict.fromkeys(("tried", "fault", "rule", "family", "address", "exit"), "")
    numbers = ("attempt", "hop_port", "reused", "sent", "received", "status")
    times = ("dns_ms", "connect_ms", "handshake_ms", "first_byte_ms", "answer_ms")
    nothing = dict.fromkeys((*numbers, *times, "duration_ms"), None)
    known = {"seq": seq, "at": "2026-01-02T03:04:05.678Z", "flow_id": f"f{seq}", "port": 443}
    known |= {"client": "::1", "host": "2001:db8::1", "use": "direct", "unmatched": False}
    known |= {"kind": "tcp", "code": "", "reason": "", "cut": ""}
    shown = {**texts, **nothing, **known, **fields}
    return f"id: {seq}\nevent: flow\ndata: {json.dumps(shown)}\n\n"


async def show_flows(page: Page, scene: PageServer, *flows: str) -> None:
    """Open the Live tab on these flows, the last of them on top."""

    async def answer(route: Route) -> None:
        body = "" if route.request.headers.get("last-event-id") else "".join(flows)
        await route.fulfill(body=f"{body}: open\n\n", content_type="text/event-stream")

    await page.route("**/flows/live", answer)
    await log_in(page, scene)
    await show(page, "live")


async def test_list_is_bounded(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await show_flows(page, scene, *(flow_event(seq, path=f"/{seq}") for seq in range(700)))
        rows = page.locator("#flows tbody tr")
        await expect(page.locator("#flows")).to_contain_text("500 flows")
        await expect(rows).to_have_count(200)
        await expect(rows.first).to_contain_text("/699")


async def test_every_kind_of_flow_can_be_opened(browser: Browser, tmp_path: Path) -> None:
    """With the least that is known of it, and with the worst that a client may send."""
    hostile = "/\ud800\n\u202e<b>'\"`$(id)\\"
    http = {"kind": "http", "method": "GET", "scheme": "http", "path": hostile}
    flows = [
        flow_event(1),
        flow_event(2, kind="udp", sent=1, received=2_500_000, duration_ms=70_000, reused=True),
        flow_event(3, kind="dns"),
        flow_event(4, kind="websocket", method="GET", scheme="https", path="/", status=101),
        flow_event(5, **http),
        flow_event(
            6, **http, reused=True, dns_ms=1.5, connect_ms=2, duration_ms=3, status=201, cut="exit"
        ),
        flow_event(
            7, kind="http", method="CONNECT", code="EGRESS_REFUSED", reason="rule", status=503
        ),
    ]

    async with running(tmp_path) as scene, browser_page(browser) as page:
        await show_flows(page, scene, *flows)
        stops, said = page.locator("#flows tbody button"), drawer(page).get_by_role("status")
        await expect(stops).to_have_count(len(flows))
        for number in range(len(flows)):
            await stops.nth(number).click()
            await expect(drawer(page).locator("dl.facts")).to_contain_text(f"f{7 - number}")
            curls = drawer(page).get_by_role("button", name="Copy as curl")
            if await curls.count():
                await curls.click()
                command = await said.get_by_role("textbox").input_value()
                assert shlex.split(command)[-1].isascii()
                assert shlex.split(command)[-1].startswith("http://[2001:db8::1]:443/%EF%BF%BD%0A")
            assert await faults(page) == []
        await expect(page.locator("#flows")).to_contain_text(re.compile(r"2.5\sMB"))
        cut = page.locator("#flows tbody tr").filter(has_text="Cut short")
        await expect(cut).to_contain_text("201")
        await expect(cut).to_contain_text("Its exit is a wrong one")


async def test_everybody_can_use_it(browser: Browser, tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, running(tmp_path) as scene:
        long = "a-home-in-a-far-away-country" * 2
        await scene.make(long, host="127.0.0.1", port=proxy.port, family="ipv4")
        await scene.make("dead", host="127.0.0.1", port=1)
        await scene.ask("POST", "/pools", name="homes", members=["dead", long], strategy="first")
        await scene.ask("POST", "/rules", name="no", hosts=["refused.test"], use="refuse")
        await scene.ask("POST", "/rules", name="Alles über das Haus", use="homes")
        for path in ("/status/201", "/status/404", "/status/502", f"/{'long/' * 40}?{HUSH}"):
            await http_get(scene.mitm.port, origin.url(path=path))
        await http_get(scene.mitm.port, "http://refused.test/")
        await http_get(scene.mitm.port, origin.url(path="/stream?chunks=3&size=90000"))
        for width in (1400, 800, 380):
            async with browser_page(browser, width) as page:
                await open_live(page, scene)
                rows = page.locator("#flows tbody tr")
                await expect(rows).to_have_count(6)
                for theme in ("light", "dark"):
                    await page.locator("#theme").select_option(theme)
                    assert await faults(page) == [], theme
                    await keep(page, f"live-list-{width}-{theme}")
                    await rows.first.get_by_role("button").click()
                    await expect(drawer(page)).to_contain_text("Matched")
                    assert await faults(page) == [], ("open", theme)
                    await keep(page, f"live-open-{width}-{theme}")
                    await drawer(page).press("Escape")
                    await expect(drawer(page)).to_be_hidden()
