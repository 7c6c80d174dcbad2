"""What a person sees of the egress in a real mitmweb, and in a browser that is refused a page."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, expect

from tests.e2e.browser import browser_page, chromium, faults, keep
from tests.e2e.curl import curl
from tests.e2e.programs import EXIT, IPV4, PASSWORD, USERNAME, nginx, squid
from tests.helpers.mitm import SCRIPT
from tests.helpers.ports import free_port
from tests.helpers.scene import write_policy

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
ACCOUNT = {"username": USERNAME, "password": PASSWORD}
COLUMNS = ("path", "method", "status", "comment")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


class Mitmweb:
    def __init__(self, port: int, web: int) -> None:
        self.proxy = "-x", f"http://{IPV4}:{port}"
        self.server = f"http://{IPV4}:{port}"
        self.url = f"http://{IPV4}:{web}/?token=word"
        self.client = httpx.AsyncClient(
            base_url=f"http://{IPV4}:{web}", params={"token": "word"}, trust_env=False
        )

    async def flows(self) -> list[dict[str, Any]]:
        answer = await self.client.get("/flows")
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found

    async def events(self) -> str:
        """The event log."""
        return (await self.client.get("/events")).text

    async def said(self, text: str) -> None:
        """Wait until the event log has this regular expression, which nothing else reports."""
        try:
            async with asyncio.timeout(20):
                while not re.search(text, await self.events()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{text!r} is not in {await self.events()}")

    async def wait(self) -> None:
        """Until it listens, which nothing else reports."""
        async with asyncio.timeout(40):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await self.flows()
                    return
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def mitmweb(
    folder: Path, *args: str, registry: str = "", **policy: Any
) -> AsyncIterator[Mitmweb]:
    port, web = free_port(), free_port()
    options = {
        "confdir": folder / "conf",
        "web_password": "word",
        "egress_policy": write_policy(folder / "policy.yaml", **policy),
        "egress_registry": registry,
        "egress_listen": "",
        "egress_hosts_file": "",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from mitmproxy.tools.main import mitmweb; mitmweb()"),
        *(f"--set={name}={value}" for name, value in options.items()),
        *(f"--set=web_columns={name}" for name in COLUMNS),
        *("--no-web-open-browser", "--web-port", str(web), "--web-host", IPV4),
        *("--listen-host", IPV4, "--listen-port", str(port), "-s", str(SCRIPT), *args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1"},
    )
    made = Mitmweb(port, web)
    try:
        async with made.client:
            await made.wait()
            yield made
    finally:
        process.terminate()
        await process.wait()


async def test_mitmweb_shows_the_way_and_explains_it(tmp_path: Path, browser: Browser) -> None:
    saved = tmp_path / "saved.flow"
    async with nginx(tmp_path) as origin, squid(tmp_path) as proxy:
        policy: dict[str, Any] = {
            "proxies": [
                {"name": "exit", "type": "http", "host": IPV4, "port": proxy.port, **ACCOUNT}
            ],
            "rules": [{"name": "ads", "hosts": ["ads.test"], "use": "refuse"}, {"use": "exit"}],
        }
        async with mitmweb(tmp_path, "-w", str(saved), **policy) as web:
            assert (await curl(f"http://{IPV4}:{origin.port}/", *web.proxy)).status == 200
            assert (await curl("http://ads.test/", *web.proxy)).status == 503
            left, refused = await web.flows()
            assert left["comment"].startswith(f"via exit {IPV4}:{proxy.port} IPv4, rule #2, ")
            assert refused["comment"] == "refused, rule ads"
            async with browser_page(browser) as page:
                await page.goto(web.url)
                line = page.get_by_role("row").filter(has_text="refused, rule ads")
                await expect(line).to_be_visible()
                await expect(page.get_by_text(left["comment"]).first).to_be_visible()
                await keep(page, "mitmweb-comments")
                await line.click()
                await page.get_by_text("Response", exact=True).click()
                await page.get_by_text("View:").click()
                await page.get_by_text("egress", exact=True).click()
                await expect(page.get_by_text("outcome: refuse")).to_be_visible()
                await keep(page, "mitmweb-view")
        async with mitmweb(tmp_path, "-r", str(saved), **policy) as web:
            left, refused = await web.flows()
            for one, outcome in ((left, "egress"), (refused, "refuse")):
                path = f"/flows/{one['id']}/response/content/Egress"
                shown = (await web.client.get(path)).raise_for_status().json()
                assert shown["view_name"] == "Egress"
                assert shown["text"].startswith(one["comment"])
                assert f"\noutcome: {outcome}\n" in shown["text"]


async def test_host_is_steered_by_the_commands_of_mitmweb(tmp_path: Path, browser: Browser) -> None:
    async with nginx(tmp_path) as origin, squid(tmp_path) as proxy:
        policy: dict[str, Any] = {
            "proxies": [
                {"name": "exit", "type": "http", "host": IPV4, "port": proxy.port, **ACCOUNT}
            ],
            "pools": [{"name": "homes", "members": ["exit"]}],
        }
        registry = str(tmp_path / "egress.db")
        async with (
            mitmweb(tmp_path, registry=registry, **policy) as web,
            browser_page(browser) as page,
        ):

            async def ask() -> tuple[int, str]:
                answer = await curl(f"http://{IPV4}:{origin.port}/", *web.proxy)
                return answer.status, answer.reached[1] if answer.status == 200 else ""

            await page.goto(web.url)
            await expect(page.get_by_text("connected")).to_be_visible()
            assert await ask() == (200, IPV4)
            for command, said, reached in (
                (["use", "@all", "homes"], rf"{IPV4}: homes [^,]*, was direct", (200, EXIT)),
                (["use", "@all", "refuse"], rf"{IPV4}: refuse [^,]*, was homes", (503, "")),
                (["undo"], "taken back", (200, EXIT)),
                (["use", "@all", "clear"], rf"{IPV4}: direct [^,]*, was homes", (200, IPV4)),
            ):
                await page.evaluate(_COMMAND, command)
                await web.said(said)
                assert await ask() == reached


_COMMAND = """async ([name, ...args]) => {
  const word = document.cookie.match(/_mitmproxy_xsrf=([^;]+)/)[1];
  const headers = { "Content-Type": "application/json", "X-XSRFToken": word };
  const body = JSON.stringify({ arguments: args });
  const answer = await fetch(`/commands/egress.${name}`, { method: "POST", headers, body });
  const { error } = await answer.json();
  if (error) throw new Error(error);
}"""
"""What mitmweb does with a line of its command bar."""


def note_in(said: list[str]) -> Callable[[ConsoleMessage], None]:
    return lambda message: said.append(message.text)


async def test_browser_that_is_refused_shows_why(tmp_path: Path, browser: Browser) -> None:
    rules = [{"name": "ads", "hosts": ["ads.test"], "use": "refuse"}]
    async with mitmweb(tmp_path, rules=rules) as web:
        for width, scheme in ((380, "light"), (800, "dark"), (1400, "light")):
            context = await browser.new_context(
                proxy={"server": web.server, "bypass": "<-loopback>"},
                viewport={"width": width, "height": 900},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            async with context:
                page = await context.new_page()
                said: list[str] = []
                page.on("console", note_in(said))
                answer = await page.goto("http://ads.test/<b>?x=1")
                assert answer
                assert answer.status == 503
                heading = page.get_by_role("heading", name="The egress policy refused this request")
                await expect(heading).to_be_visible()
                await expect(
                    page.get_by_text("egress-policy explain http://ads.test:80/")
                ).to_be_visible()
                await expect(page.locator("dd").filter(has_text="ads").first).to_be_visible()
                found = await faults(page)
                assert [
                    one for one in found if not one.startswith("code or style in the page: <style")
                ] == []
                assert await page.evaluate("getComputedStyle(document.body).maxWidth") == "672px"
                assert [one for one in said if "Content Security Policy" in one] == []
                await keep(page, f"refusal-{width}-{scheme}")
