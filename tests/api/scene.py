"""The API of a management of its own, listening on loopback, and a client that has its token."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from egress_policy.api.server import ApiServer
from egress_policy.management.management import Management
from egress_policy.model.settings import parse_listen
from tests.helpers.clients import plain_client
from tests.helpers.management import managed

PREFIX = "/api/v1/management"


@dataclass
class Scene:
    management: Management
    server: ApiServer
    client: httpx.AsyncClient
    """Has the token; ``stranger`` has none."""
    stranger: httpx.AsyncClient
    token: str

    @property
    def port(self) -> int:
        return self.server.addresses[0][1]

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A path below the prefix, or an absolute one."""
        known = path.startswith(("/api", "/healthz", "/metrics", "/openapi", "/static", "/?"))
        return await self.client.request(method, path if known else PREFIX + path, **options)

    async def make(self, name: str = "one", **fields: Any) -> dict[str, Any]:
        stated = {"name": name, "type": "socks5", "host": "192.0.2.1", "port": 1080, **fields}
        answer = await self.ask("POST", "/proxies", json=stated)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made


@contextlib.asynccontextmanager
async def serving(
    folder: Path, listen: str = "127.0.0.1:0", **options: Any
) -> AsyncIterator[Scene]:
    async with managed(folder, **options) as management:
        server = ApiServer(management, parse_listen(listen), folder / "egress-token")
        server.start()
        token = (folder / "egress-token").read_text().strip()
        base = f"http://127.0.0.1:{server.addresses[0][1]}"
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            plain_client(base_url=base, headers=headers) as client,
            plain_client(base_url=base) as stranger,
        ):
            try:
                yield Scene(management, server, client, stranger, token)
            finally:
                server.stop()
