"""The page of a real mitmdump, as its users find it: what the tests of every tab share."""

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Locator, Page, expect

from tests.helpers.mitm import Mitmdump


@dataclass
class PageServer:
    url: str
    token: str
    mitm: Mitmdump
    client: httpx.AsyncClient

    async def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = await self.client.request(
            method, f"/api/v1/management{path}", json=body if method != "GET" else None
        )
        answer.raise_for_status()
        return answer.json()

    async def make(self, name: str, **fields: Any) -> str:
        """The id of a new proxy."""
        stated = {"name": name, "type": "socks5", "host": "192.0.2.1", "port": 1080, **fields}
        made = await self.ask("POST", "/proxies", **stated)
        return str(made["id"])

    async def proxy(self, name: str) -> dict[str, Any]:
        found = await self.ask("GET", f"/proxies?q={name}")
        return next(one for one in found["items"] if one["name"] == name)


@contextlib.asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[PageServer]:
    place: dict[str, Any] = {
        "egress_registry": str(folder / "egress.db"),
        "egress_listen": "127.0.0.1:0",
        **options,
    }
    token = folder / "egress-token"
    mitm = Mitmdump(folder / "conf", egress_token_file=token, **place)
    async with mitm:
        url = (await mitm.wait_for_log(r"page: (http\S+/)"))[1]
        word = token.read_text().strip()
        headers = {"Authorization": f"Bearer {word}"}
        alone = httpx.Limits(max_keepalive_connections=0)  # none that ends while a test waits
        async with httpx.AsyncClient(
            base_url=url, headers=headers, limits=alone, trust_env=False, timeout=60
        ) as client:
            yield PageServer(url, word, mitm, client)


async def log_in(page: Page, scene: PageServer) -> None:
    await page.goto(scene.url)
    await page.get_by_label("Token").fill(scene.token)
    await page.get_by_role("button", name="Log in").click()
    await show(page, "proxies")


def row(page: Page, name: str) -> Locator:
    return page.locator(f"tr[data-name='{name}']")


async def act(place: Page | Locator, *names: str) -> None:
    """Click buttons in order; ``Edit: exit`` is the button ``Edit`` in the row ``exit``."""
    for name in names:
        escaped = re.escape(name).replace("/", r"\/")  # as JavaScript wants it
        await place.get_by_role("button", name=re.compile(rf"^{escaped}(:.*)?$")).click()


async def show(page: Page, tab: str) -> None:
    await page.locator(f"#tab-{tab}").click()
    await expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")
