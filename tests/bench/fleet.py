"""Nodes that share a registry in PostgreSQL: how soon all of them hold to an edit, at what cost.

Each node is a process of this module, `python -m tests.bench.fleet URL FOLDER`, which is told on
its standard input what to do and says on its standard output what happened, and when.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from egress_policy.registry.registry import Registry
from egress_policy.registry.secrets import load_key
from tests.e2e.postgres import postgres
from tests.helpers.management import KEY, managed

NODES, PROXIES, RULES = 5, 10_000, 5_000
_PACE = 0.2
"""Seconds between edits that come steadily."""
_EDITS = 120


class Found(NamedTuple):
    """Milliseconds from an edit to when the last node holds to it; edits a second, each made when
    the one before was answered; what share of a core a node needs that follows five a second."""

    p50: float
    p99: float
    rate: float
    cpu: float


async def measure() -> Found:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with postgres(folder) as server, contextlib.AsyncExitStack() as stack:
            url = server.new_database()
            fill(url, load_key(folder, KEY), PROXIES, RULES)
            nodes = [await stack.enter_async_context(_node(url, folder)) for _ in range(NODES)]
            await _edit(nodes, 5, _PACE)
            before = [await node.cpu() for node in nodes]
            started = time.monotonic()
            delays = await _edit(nodes, _EDITS, _PACE)
            seconds = time.monotonic() - started
            after = [await node.cpu() for node in nodes]
            shares = [(b - a) / seconds * 100 for a, b in zip(before, after, strict=True)]
            started = time.monotonic()
            await _edit(nodes, _EDITS, 0)
            rate = _EDITS / (time.monotonic() - started)
    return Found(median(delays), quantiles(delays, n=100)[98], rate, median(shares[1:]))


def fill(place: str, key: bytes, proxies: int, rules: int, members: int = 0) -> None:
    """Make a registry of so many, with one pool of so many members that every tenth rule uses."""
    registry = Registry.open(place, key)
    with contextlib.closing(registry), registry.edit() as edit:
        for n in range(proxies):
            hop = {"type": "socks5", "host": f"proxy-{n}.example", "family": "ipv6"}
            login = {"username": f"user-{n}", "password": "secret"}
            edit.proxies.create({"name": f"p{n}", **hop, **login})
        if members:
            edit.pools.create({"name": "pool", "members": [f"p{n}" for n in range(members)]})
        for n in range(rules):
            use = "pool" if members and n % 10 == 0 else f"p{n}"
            edit.rules.create({"hosts": [f"*.host-{n}.example"], "use": use})


class _Node:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.holds: list[tuple[int, float]] = []
        """Revisions, and when they came into force."""
        self.edits: list[tuple[int, float]] = []
        """Revisions, and when their edits were begun."""
        self._answers: asyncio.Queue[float] = asyncio.Queue()

    async def cpu(self) -> float:
        self.tell("cpu")
        return await self._answers.get()

    def tell(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n".encode())

    async def listen(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            what, number, at = line.split()
            if what == b"holds":
                self.holds.append((int(number), float(at)))
            elif what == b"edit":
                self.edits.append((int(number), float(at)))
            else:
                self._answers.put_nowait(float(number))

    def held_at(self, revision: int) -> float:
        return next(at for held, at in self.holds if held >= revision)


@contextlib.asynccontextmanager
async def _node(url: str, folder: Path) -> AsyncIterator[_Node]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "tests.bench.fleet", url, str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    node = _Node(process)
    listening = asyncio.create_task(node.listen())
    try:
        await node.cpu()
        yield node
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()
        await listening


async def _edit(nodes: Sequence[_Node], count: int, pause: float) -> list[float]:
    """Let the first node make edits, and wait until all hold to them. Milliseconds for each."""
    writer, done = nodes[0], len(nodes[0].edits) + count
    writer.tell(f"edit {count} {pause}")
    while len(writer.edits) < done or any(
        not node.holds or node.holds[-1][0] < writer.edits[-1][0] for node in nodes
    ):
        await asyncio.sleep(0.01)
    return [
        (max(node.held_at(revision) for node in nodes) - started) * 1000
        for revision, started in writer.edits[-count:]
    ]


async def _run(url: str, folder: Path) -> None:
    async with managed(folder, registry=url) as management:
        in_force, on_change = management.in_force, management.in_force.on_change

        def changed() -> None:
            if in_force.state:
                _say("holds", in_force.state.revision, time.monotonic())
            on_change()

        in_force.on_change = changed
        ids = [stored.id for stored in in_force.state.proxies] if in_force.state else []
        ports = _ports()
        while command := (await asyncio.to_thread(sys.stdin.readline)).split():
            if command[0] == "cpu":
                _say("cpu", time.process_time(), time.monotonic())
                continue
            due = time.monotonic()
            for number in range(int(command[1])):
                await asyncio.sleep(due - time.monotonic())
                started = time.monotonic()
                edited = ids[number * 37 % len(ids)]
                view = await management.proxies.update(edited, {"port": next(ports)})
                _say("edit", view.etag, started)
                due += float(command[2])


def _ports() -> Iterator[int]:
    while True:
        yield from range(1024, 65536)


def _say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], Path(sys.argv[2])))
