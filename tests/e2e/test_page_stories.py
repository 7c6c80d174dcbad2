"""What a person does on the page from the first minute on, with microsocks and squid as exits.

The exits differ by the address from which the origin is reached: ``DIRECT``, ``EXIT``, ``SQUID``.
"""

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.curl import curl
from tests.e2e.page import PageServer, act, log_in, row, running, show
from tests.e2e.programs import EXIT, PASSWORD, USERNAME, microsocks, nginx, squid
from tests.e2e.system import Program
from tests.helpers.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
DIRECT, SQUID = "127.0.0.1", "127.0.0.3"
ACCOUNT = {"username": USERNAME, "password": PASSWORD}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


@dataclass
class Scene:
    page: PageServer
    origin: Program
    socks: Program
    squid: Program
    v6: Program

    async def ask(self, host: str = DIRECT, path: str = "/") -> tuple[int, str]:
        """Status, and the address that the origin was reached from."""
        proxy = "-x", f"http://127.0.0.1:{self.page.mitm.port}"
        answer = await curl(f"http://{host}:{self.origin.port}{path}", *proxy)
        return answer.status, answer.reached[1] if answer.status == 200 else ""


@pytest_asyncio.fixture(loop_scope="module")
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        yield Scene(
            await enter(running(tmp_path)),
            await enter(nginx(tmp_path)),
            await enter(microsocks(tmp_path)),
            await enter(squid(tmp_path, exit_=SQUID)),
            await enter(microsocks(tmp_path, host="::1", exit_="")),
        )


async def egress_policy(*words: str, confdir: Path) -> str:
    command = [sys.executable, "-m", "egress_policy.cli", *words, "--confdir", str(confdir)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def fill(place: Locator, **fields: object) -> None:
    """Controls of a form, by their names."""
    for name, value in fields.items():
        control = place.locator(f"[name={name}]")
        if await control.evaluate("(one) => one.tagName") == "SELECT":
            await control.select_option(str(value))
        else:
            await control.fill(str(value))


def drawer(page: Page) -> Locator:
    return page.get_by_role("region", name="Flow", exact=True)


async def test_first_proxy_over_ipv6_is_added_tested_and_seen(
    browser: Browser, scene: Scene
) -> None:
    """From the link of the command line to the first flow that leaves over IPv6."""
    target = f"http://[::1]:{scene.origin.port}/"
    await scene.page.ask("PUT", "/settings", test_url=target)
    link = await egress_policy("dashboard", "--print", confdir=scene.page.mitm.confdir)
    async with browser_page(browser) as page:
        await page.goto(link.strip())
        await show(page, "proxies")
        await act(page, "Add the first proxy")
        form = page.get_by_role("dialog")
        await fill(form, name="v6-exit", type="socks5", host="::1", port=scene.v6.port)
        await fill(form, **ACCOUNT, family="ipv6")
        await act(form, "Save")
        await expect(row(page, "v6-exit")).to_contain_text("IPv6 only")
        await act(row(page, "v6-exit"), "Test")
        await expect(row(page, "v6-exit")).to_contain_text(re.compile(r"\d ms"))

        await show(page, "live")
        assert await scene.ask("[::1]") == (200, "::1")
        rows = page.locator("#flows tbody tr")
        await expect(rows.first).to_contain_text("direct")
        await rows.first.get_by_role("button").first.click()
        await act(drawer(page), "Route this host via …")
        form = page.get_by_role("dialog")
        await form.get_by_label("Uses").fill("v6-exit")
        await act(form, "Route")
        await expect(drawer(page).get_by_role("status")).to_contain_text("leaves by v6-exit")
        before = scene.v6.output.count("connected to")
        assert await scene.ask("[::1]") == (200, "::1")
        assert scene.v6.output.count("connected to") == before + 1
        way = rf"200.*v6-exit.*\[::1\]:{scene.v6.port}.*IPv6 only"
        await expect(rows.first).to_contain_text(re.compile(way))
        await expect(rows).to_have_count(2)
        await keep(page, "story-first-flow")
    said = rf"via v6-exit \[::1\]:{scene.v6.port} IPv6, rule .* ms to the exit"
    await scene.page.mitm.wait_for_log(said)


async def test_host_is_steered_and_all_tabs_show_it(browser: Browser, scene: Scene) -> None:
    """Live, rules and overview tell the same of one host that is sent to and fro."""
    await scene.page.make("socks", host=DIRECT, port=scene.socks.port, **ACCOUNT)
    await scene.page.make("squid", type="http", host=DIRECT, port=scene.squid.port, **ACCOUNT)
    async with browser_page(browser, 1400) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await log_in(page, scene.page)
        await show(page, "live")
        assert await scene.ask(path="/first?word=1") == (200, DIRECT)
        await page.locator("#flows tbody button").first.click()
        flow, form, said = (
            drawer(page),
            page.get_by_role("dialog"),
            drawer(page).get_by_role("status"),
        )
        for name, address in (("socks", EXIT), ("squid", SQUID)):
            await act(flow, "Route this host via …")
            await form.get_by_label("Uses").fill(name)
            await act(form, "Route")
            await expect(said).to_contain_text(f"{DIRECT} leaves by {name}")
            assert await scene.ask() == (200, address)
        await act(flow, "Refuse this host")
        await expect(said).to_contain_text("is refused from now on")
        assert (await scene.ask())[0] == 503
        await act(said, "Undo")
        await expect(said).to_contain_text("Taken back")
        assert await scene.ask(path="/last?word=2") == (200, SQUID)
        await expect(page.locator("#flows tbody tr").first).to_contain_text("/last?word=2")
        await page.locator("#flows tbody button").first.click()
        await expect(flow).to_contain_text("/last?word=2")
        await act(flow, "Copy as curl")
        await expect(said).to_contain_text("add --proxy-user")
        command = shlex.split(await said.get_by_label("Copied").input_value())
        assert PASSWORD not in " ".join(command)
        account = f"{USERNAME}:{PASSWORD}"
        assert (await curl(command[-1], *command[1:-1], "--proxy-user", account)).reached[
            1
        ] == SQUID
        await keep(page, "story-steered")

        await show(page, "rules")
        steered = page.get_by_role("table", name="Rules").locator("tbody tr").first
        await expect(steered).to_contain_text(re.compile(rf"{DIRECT}.*squid"))
        await show(page, "overview")
        legend = page.locator(".legend li")
        shown = ["squid 2", "direct 1", "socks 1", "Refused 1"]
        await expect(legend).to_have_text(shown)
        for name in ("squid", "socks"):
            await expect(row(page, name)).to_contain_text("100%")
        for width, theme in ((380, "dark"), (800, "light"), (1400, "dark")):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.get_by_label("Theme").select_option(theme)
            for tab in ("overview", "live", "rules"):
                await show(page, tab)
                await expect(page.get_by_role("main").locator("tbody tr").first).to_be_visible()
                assert await faults(page) == [], (tab, width, theme)
                await keep(page, f"story-{tab}-{width}-{theme}")


async def test_clash_list_is_pasted_tested_tagged_and_given_back(
    browser: Browser, scene: Scene
) -> None:
    clash = ["proxies:"]
    for name, kind, port in (
        ("socks", "socks5", scene.socks.port),
        ("squid", "http", scene.squid.port),
        ("dead", "socks5", free_port()),
        ("other", "vmess", 443),
    ):
        account = f"username: {USERNAME}, password: '{PASSWORD}'"
        entry = f"name: {name}, type: {kind}, server: {DIRECT}, port: {port}, {account}"
        clash.append(f"  - {{{entry}}}")
    await scene.page.ask("PUT", "/settings", test_url=scene.origin.url("http"))
    async with browser_page(browser, 1400) as page:
        await log_in(page, scene.page)
        await act(page, "Import")
        form = page.get_by_role("dialog")
        await form.get_by_role("textbox").fill("\n".join(clash))
        await expect(form).to_contain_text("3 new")
        await expect(form).to_contain_text("vmess")
        await keep(page, "story-clash")
        await act(form, "Import")
        await expect(page.locator("tr[data-name]")).to_have_count(3)
        await act(page, "Test all")
        run = page.locator("#test-run")
        await expect(run).to_contain_text("3 tested: 2 good, 1 failed")
        await act(run, "Show the failed ones")
        await expect(page.locator("tr[data-name]")).to_have_count(1)
        await expect(page).to_have_url(re.compile("test=failed"))
        await page.go_back()
        await expect(page.locator("tr[data-name]")).to_have_count(3)
        await page.get_by_label("Select all on this page").check()
        await act(page.get_by_role("group", name="Selected proxies"), "Edit …")
        await form.get_by_label("Add tags").fill("lab")
        await act(form, "Save")
        await expect(row(page, "squid")).to_contain_text("#lab")
        await act(page, "Export")
        await form.get_by_label("Format").select_option("clash")
        async with page.expect_download() as got:
            await act(form, "Export")
        text = Path(await (await got.value).path()).read_text()
        names = re.findall(r"""\bname["']?: *["']?(\w+)""", text)
        assert sorted(names) == ["dead", "socks", "squid"], text
        assert PASSWORD not in text
