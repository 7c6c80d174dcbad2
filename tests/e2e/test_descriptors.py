"""Without free descriptors, flows are refused, the log stays short, and the API still answers.

The system's limit is set for one process, so low that a few connections reach it.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from egress_policy.policy.hop import AT_ONCE
from egress_policy.proxy.dialer import GIVEN_UP
from tests.e2e.network import black_hole, network
from tests.helpers.clients import Wire, http_get, wire
from tests.helpers.mitm import SCRIPT, Mitmdump
from tests.helpers.origin import Origin
from tests.helpers.scene import write_policy
from tests.helpers.watch import poll

pytestmark = pytest.mark.e2e
LIMIT = 128
FLOOD = 4.0
"""Seconds."""
OPEN = {"rules": [{"use": "direct", "family": "ipv4"}]}
OTHER = "127.0.0.2:9"
"""Dialled again for each request."""
EDITED = {"rules": [{"name": "edited", "use": "refuse"}]}


@dataclass
class Full:
    """A mitmdump without a free descriptor, and the connections that use them up."""

    mitm: Mitmdump
    client: Wire
    held: list[asyncio.StreamWriter]

    @property
    def pid(self) -> int:
        return self.mitm._process.pid

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu(self) -> float:
        """Seconds of processor time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def fill(self) -> None:
        """Open more connections than it can accept: the last of them keep knocking."""
        place = "127.0.0.1", self.mitm.port
        self.held += [(await asyncio.open_connection(*place))[1] for _ in range(LIMIT)]
        await poll(lambda: self.descriptors() >= LIMIT)

    def release(self) -> None:
        for writer in self.held:
            writer.transport.abort()

    async def flood(self) -> float:
        """Let them knock for a while, and return the processor time that it costs."""
        before = self.cpu()
        await asyncio.sleep(FLOOD)
        return self.cpu() - before


@contextlib.asynccontextmanager
async def full(
    folder: Path, origin: Origin, script: Path | None, **options: Any
) -> AsyncIterator[Full]:
    mitm = Mitmdump(folder / "conf", script=script, descriptors=LIMIT, **options)
    async with mitm, wire(mitm.port) as client:
        answer = await client.request("GET", origin.url(), origin.authority)
        assert answer.status == 200  # and it is no longer starting
        made = Full(mitm, client, [])
        await made.fill()
        try:
            yield made
        finally:
            made.release()


async def test_without_descriptors_flows_are_refused_quietly_and_the_api_answers(
    tmp_path: Path,
) -> None:
    """An edit from that time is in force once descriptors are free again."""
    policy = write_policy(tmp_path / "policy.yaml", **OPEN)
    token = tmp_path / "token"
    options: dict[str, Any] = {
        "egress_policy": policy,
        "egress_registry": tmp_path / "egress.db",
        "egress_listen": "127.0.0.1:0",
        "egress_token_file": token,
    }
    async with Origin() as origin:
        async with full(tmp_path / "stock", origin, None) as scene:
            usual = await scene.flood()
        async with full(tmp_path / "ours", origin, SCRIPT, **options) as scene:
            assert await scene.flood() <= 1.5 * usual + 0.5
            url = (await scene.mitm.wait_for_log(r"page: (http\S+/)"))[1]
            refused, answered = 0, 0

            async def ask(method: str, path: str, **more: Any) -> httpx.Response:
                headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
                async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                    place = f"{url}api/v1/management{path}"
                    return await client.request(method, place, headers=headers, **more)

            async def keep_asking() -> None:
                nonlocal refused
                while not flooding.done():
                    answer = await scene.client.request("GET", f"http://{OTHER}/", OTHER)
                    assert answer.status == 503
                    refused += 1

            async def keep_looking() -> None:
                nonlocal answered
                while not flooding.done():
                    assert (await ask("GET", "/status")).status_code == 200
                    answered += 1
                    await asyncio.sleep(0.2)

            flooding = asyncio.create_task(scene.flood())
            write_policy(policy, **EDITED)
            stored = {"name": "of the registry", "use": "refuse"}
            made = await ask("POST", "/rules", json=stored)
            await asyncio.gather(keep_asking(), keep_looking())
            lines = [line for line in scene.mitm.lines if "egress refused" in line]
            assert made.status_code == 201, made.text
            assert refused > 50
            assert answered > 5
            assert len(lines) <= 2 * (FLOOD + 2)
            assert "Too many open files" in "".join(lines)
            scene.release()
            await scene.mitm.wait_for_log("Egress policy reloaded")
            refusal = (await http_get(scene.mitm.port, origin.url())).json
            assert (refusal["reason"], refusal["rule"]) == ("rule", "edited")
            rules = (await ask("GET", "/rules")).json()["items"]
            assert "of the registry" in [rule["name"] for rule in rules]


async def test_an_exit_with_many_dead_addresses_does_not_take_all_descriptors(
    tmp_path: Path,
) -> None:
    """60 flows to 60 addresses that never answer, with the limit that many systems have."""
    flows, port, limit = 60, 3128, 1024
    dead = [f"127.0.1.{number}" for number in range(1, 61)]
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"{address} dead.test\n" for address in dead))
    exit_ = {"name": "exit", "host": "dead.test", "port": port, "family": "ipv4"}
    policy = write_policy(tmp_path / "policy.yaml", proxies=[exit_], rules=[{"use": "exit"}])
    with network(), contextlib.ExitStack() as holes:
        for address in dead:
            holes.enter_context(black_hole(address, port))
        async with (
            Mitmdump(
                tmp_path / "conf",
                script=SCRIPT,
                descriptors=limit,
                egress_policy=policy,
                egress_hosts_file=hosts,
                egress_registry="",
                egress_listen="",
            ) as mitm,
            asyncio.TaskGroup() as waiting,
        ):
            usual = len(os.listdir(f"/proc/{mitm._process.pid}/fd"))
            asked = [
                waiting.create_task(http_get(mitm.port, "http://origin.test/"))
                for _ in range(flows)
            ]
            most, started = 0, time.monotonic()
            while time.monotonic() - started < FLOOD:
                most = max(most, len(os.listdir(f"/proc/{mitm._process.pid}/fd")))
                await asyncio.sleep(0.02)  # nothing tells when a socket is made
            for task in asked:
                task.cancel()
        files = 8  # that are read meanwhile
        assert flows * AT_ONCE <= most - usual <= flows * (1 + AT_ONCE) + files
    assert "error establishing server connection: [Errno" not in mitm.output
    assert GIVEN_UP not in mitm.output
