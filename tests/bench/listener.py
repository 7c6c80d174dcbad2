"""What an attack on the management listener does to flows: their time under it and without it."""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import programs
from tests.bench.attacks import KINDS, Attack
from tests.bench.pairs import Aim, Row, row
from tests.helpers.mitm import SCRIPT
from tests.helpers.ports import free_port

RATE = 100
"""Requests a second, whether or not the ones before were answered."""
PROXIES = 10_000
_SETTLE = 1.0


def measure(pairs: int, seconds: float) -> Iterator[Row]:
    """In place of ours the p99 under the attack, of theirs that without it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin = stack.enter_context(programs.nginx(folder))
        listener = free_port()
        policy = folder / "policy.json"
        proxies = [
            {"name": f"p{n}", "type": "socks5", "host": f"proxy-{n}.example", "port": 1080}
            for n in range(PROXIES)
        ]
        policy.write_text(json.dumps({"version": 1, "proxies": proxies}))
        args = [f"--set=egress_policy={policy}", f"--set=egress_listen=127.0.0.1:{listener}"]
        proxy = stack.enter_context(programs.mitmdump(folder, "-s", str(SCRIPT), *args))
        await_api(listener)
        token = (folder / "egress-token").read_text().strip()
        url = f"http://127.0.0.1:{origin.http}/"
        asyncio.run(p99(proxy.port, url, 1))  # to warm up
        for kind in KINDS:
            found = []
            for _ in range(pairs):
                calm = asyncio.run(p99(proxy.port, url, seconds))
                with _attack(kind, listener, token):
                    time.sleep(_SETTLE)
                    attacked = asyncio.run(p99(proxy.port, url, seconds))
                time.sleep(_SETTLE)
                found.append((attacked, calm))
            what = (getattr(Attack, kind).__doc__ or kind).rstrip(".")
            yield row(f"listener, p99 of flows: {what}", "ms", found, Aim("ratio", "<=", 2))


@contextlib.contextmanager
def _attack(kind: str, port: int, token: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.attacks", kind, str(port)]
    environ = {**os.environ, "EGRESS_TOKEN": token}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environ) as process:
        try:
            yield
        finally:
            process.kill()


def await_api(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise RuntimeError("the management API does not listen")


async def p99(proxy: int, url: str, seconds: float) -> float:
    """Milliseconds from when a request is due to its answer."""
    idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    idle = asyncio.LifoQueue()
    times: list[float] = []

    async def ask(due: float) -> None:
        try:
            stream = idle.get_nowait()
        except asyncio.QueueEmpty:
            stream = await asyncio.open_connection("127.0.0.1", proxy)
        reader, writer = stream
        writer.write(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(head)
        await reader.readexactly(programs.ANSWER_BYTES)
        times.append((time.perf_counter() - due) * 1000)
        idle.put_nowait(stream)

    async with asyncio.timeout(seconds + 60), asyncio.TaskGroup() as group:
        due = time.perf_counter()
        for _ in range(int(seconds * RATE)):
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(ask(due))
            due += 1 / RATE
    while not idle.empty():
        idle.get_nowait()[1].close()
    return statistics.quantiles(times, n=100)[98]
