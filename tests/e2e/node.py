"""A node: mitmdump as a process with a registry and its management API."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.mitmdump import EgressMitmdump

API_PLACE = r"management API and page: (http\S+)/"
"""What mitmdump logs about its listener."""


async def ask_api(
    mitm: EgressMitmdump, method: str, path: str, place: str, **body: Any
) -> httpx.Response:
    """One request to the management API at ``place``, below its prefix."""
    token = (mitm.confdir / "egress-token").read_text().strip()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.request(
            method,
            f"{place}/api/v1/management{path}",
            json=body or None,
            headers={"Authorization": f"Bearer {token}"},
        )


class Node(EgressMitmdump):
    """``folder`` holds its confdir and, unless ``registry`` says otherwise, its registry."""

    def __init__(
        self,
        folder: Path,
        *args: str,
        registry: object = "",
        prefix: Sequence[str] = (),
        **options: Any,
    ) -> None:
        folder.mkdir(exist_ok=True)
        options = {"egress_listen": "127.0.0.1:0", "egress_hosts_file": "", **options}
        options["egress_registry"] = registry or folder / "egress.db"
        super().__init__(folder / "conf", *args, prefix=prefix, **options)

    async def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        """One request to the API, below its prefix."""
        await self.wait_for_log(API_PLACE)
        # The last one: it may have moved with a reload of the script.
        place: str = re.findall(API_PLACE, self.output)[-1]
        return await ask_api(self, method, path, place, **body)

    async def change(self, method: str, path: str, **body: Any) -> Any:
        """One request to the API that must succeed. Returns the answer."""
        answer = await self.ask(method, path, **body)
        assert answer.is_success, answer.text
        return answer.json()
