"""The load: wrk for plain requests, HTTP/2 streams that know the policy in force, held tunnels."""

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from tests.e2e.system import find
from tests.helpers.clients import Wire, connect, http2_client
from tests.soak.scene import ECHO, FIXED, SWAPPED, Soak

LUA = Path(__file__).with_name("wrk.lua")
_OPENING = 50
"""Tunnels that are opened together: a busy machine takes longer for a thousand than one may
take."""
_CUT = (httpx.TransportError, ssl.SSLError)


async def wrk(scene: Soak, seconds: int) -> Counter[str]:
    """Plain requests at full speed: how many were ``right``, ``refused`` and ``wrong``.

    They do not know when an edit is in force, so a swapped host may leave by both proxies.
    """
    both = "|".join(scene.expected[host] for host in SWAPPED)
    fixed = (f"{host}={scene.expected[host]}" for host in FIXED.values())
    process = await asyncio.create_subprocess_exec(
        # So few that HTTP/2 gets its share of the one event loop.
        *(find("wrk"), "-t", "1", "-c", "4", "-d", f"{seconds}s", "--timeout", "10s"),
        *("-s", str(LUA), f"http://127.0.0.1:{scene.mitm.port}", "--", str(scene.origin.port)),
        *(f"{host}={both}" for host in SWAPPED),
        *fixed,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    found = re.search(r"right (\d+) refused (\d+) wrong (\d+) ?(.*)", output)
    assert found, output
    if found[4]:
        print(f"wrk got a wrong answer: {found[4]}")
    return Counter(dict(zip(("right", "refused", "wrong"), map(int, found.groups()), strict=False)))


async def http2(scene: Soak, results: Counter[str]) -> None:
    """Streams for all hosts at once on one connection, repeated until cancelled.

    A stream that begins and ends under the same policy has to leave by exactly its egress.
    """
    while True:
        async with http2_client(scene.mitm.port, scene.mitm.ca_cert) as client:
            while not await _all_hosts(scene, client, results):
                pass
            results["cut"] += 1


async def _all_hosts(scene: Soak, client: httpx.AsyncClient, results: Counter[str]) -> bool:
    """Ask for all hosts at once. Returns whether the connection was cut."""
    asked = (_stream(scene, client, host, results) for host in scene.expected)
    errors = [one for one in await asyncio.gather(*asked, return_exceptions=True) if one]
    for error in errors:
        if not isinstance(error, _CUT):
            raise error
    return bool(errors)


async def _stream(scene: Soak, client: httpx.AsyncClient, host: str, results: Counter[str]) -> None:
    edits, settled, expected = scene.edits, scene.settled, scene.expected
    answer = await client.get(f"https://{host}:{scene.origin.tls_port}/")
    if answer.status_code != 200:
        results["refused"] += 1
        return
    sure = settled and scene.settled and edits == scene.edits
    right = {expected[host]} if sure or host not in SWAPPED else {expected[h] for h in SWAPPED}
    peer = answer.json()["peer"]
    results["right" if peer in right else "wrong"] += 1
    if peer not in right:
        print(f"{host} left by {peer} instead of {right}")


@asynccontextmanager
async def held(scene: Soak, count: int) -> AsyncIterator[list[Wire]]:
    """Open tunnels over SOCKS5: ``count``, or as many as could be opened."""
    turn = asyncio.Semaphore(_OPENING)
    async with AsyncExitStack() as stack:

        async def one() -> Wire:
            async with turn:
                return await stack.enter_async_context(
                    connect(scene.mitm.port, ECHO, scene.echo.port)
                )

        opened = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        yield [tunnel for tunnel in opened if isinstance(tunnel, Wire)]


async def echoing(tunnels: Sequence[Wire]) -> int:
    """How many tunnels echo what is sent, all at once."""

    async def one(tunnel: Wire) -> bool:
        await tunnel.send(b"\x00ping")
        async with asyncio.timeout(60):
            return await tunnel.receive(5) == b"\x00ping"

    said = await asyncio.gather(*map(one, tunnels), return_exceptions=True)
    return said.count(True)
