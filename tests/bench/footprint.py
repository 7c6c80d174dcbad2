"""What a mitmdump takes beside the requests: CPU time to start, and memory.

Memory is what the process has in RAM: once it is idle, for each of a thousand connections that
clients hold open, and what many flows leave behind. Ours has one proxy and one rule, theirs is in
upstream mode.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import programs
from tests.bench.egresses import prove
from tests.bench.load import Job, Lane, Side
from tests.bench.pairs import Aim, Row, row
from tests.bench.processes import await_idle, cpu_of, resident
from tests.bench.programs import Origin, Program

NEEDS = ("nginx", "squid")
HELD = 1000
_WARM_UP = 200
_MB = 1024
_LONGEST = 120.0
"""Seconds after which flows are no longer waited for. The row says how many had passed by then."""

Start = Callable[[Path, Program], AbstractContextManager[Program]]
"""Starts a mitmdump by a folder and the squid behind it."""


@dataclass(frozen=True)
class Effort:
    """How often each mitmdump is started, and how many flows pass for the last rows."""

    starts: int
    flows: int


@dataclass
class _Found:
    """One number for each start: CPU seconds, MB, KB a connection; then MB after a tenth of the
    flows, how many passed after those, and the KB that 1,000 of them added."""

    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    settled: float = 0.0
    passed: int = 0
    growth: float = 0.0


def measure(effort: Effort) -> Iterator[Row]:
    """In place of ours each mitmdump with the addon, of theirs stock mitmdump."""
    found = {what: _Found() for what in _PROGRAMS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        origin = stack.enter_context(programs.nginx(folder))
        squid = stack.enter_context(programs.squid(folder))
        for what, start in _PROGRAMS.items():
            (folder / what).mkdir()
            with start(folder / what, squid):  # makes the registry, and Python's compiled files
                pass
        for _ in range(effort.starts):
            for what, start in _PROGRAMS.items():
                with start(folder / what, squid) as mitmdump:
                    _look_at_start(mitmdump, found[what])
                    if what != _STOCK:
                        prove(mitmdump, origin)
                    if what != _BARE:
                        asyncio.run(_hold(mitmdump, origin, found[what]))
        for what in (_STOCK, _OURS):
            with _PROGRAMS[what](folder / what, squid) as mitmdump:
                asyncio.run(_grow(mitmdump, origin, effort.flows, found[what]))
    yield from _rows(found, effort)


def _rows(found: dict[str, _Found], effort: Effort) -> Iterator[Row]:
    stock, ours = found.pop(_STOCK), found[_OURS]
    for what, limit in ((_BARE, 0.60), (_OURS, 0.65)):
        pairs = zip(found[what].cpu, stock.cpu, strict=True)
        yield row(f"footprint, start, {what}", "CPU s", pairs, Aim("ours", "<=", limit))
    for what in (_BARE, _OURS):
        pairs = zip(found[what].memory, stock.memory, strict=True)
        yield row(f"footprint, memory before load, {what}", "MB", pairs, Aim("ours", "<=", 82))
    held = zip(ours.held, stock.held, strict=True)
    yield row(f"footprint, each of {HELD:,} held connections", "KB", held, Aim("ours", "<=", 38))
    warm_up, settled = effort.flows // 10, (ours.settled, stock.settled)
    yield row(f"footprint, memory after {warm_up:,} flows", "MB", [settled] * 2)
    until, growth = warm_up + min(ours.passed, stock.passed), (ours.growth, stock.growth)
    what = f"footprint, growth from {warm_up:,} to {until:,} flows"
    yield row(what, "KB/1,000", [growth] * 2)


def _stock(folder: Path, squid: Program) -> AbstractContextManager[Program]:
    return programs.mitmdump(folder, "--mode", f"upstream:http://127.0.0.1:{squid.port}")


def _ours(folder: Path, squid: Program) -> AbstractContextManager[Program]:
    return programs.with_addon(folder, _egress(squid))


def _without_registry(folder: Path, squid: Program) -> AbstractContextManager[Program]:
    return programs.with_addon(folder, _egress(squid), bare=True)


def _egress(squid: Program) -> dict[str, object]:
    return {"type": "http", "host": "127.0.0.1", "port": squid.port}


_STOCK, _OURS, _BARE = "stock", "with registry and page", "without registry and page"
_PROGRAMS: dict[str, Start] = {_STOCK: _stock, _OURS: _ours, _BARE: _without_registry}


def _look_at_start(mitmdump: Program, found: _Found) -> None:
    await_idle(mitmdump.pid)
    found.cpu.append(cpu_of(mitmdump.pid))
    found.memory.append(resident(mitmdump.pid) / _MB)


async def _hold(mitmdump: Program, origin: Origin, found: _Found) -> None:
    """One request over each of many connections, which then stay open."""
    lane = Lane(Side(mitmdump.port, ()), _job(mitmdump, origin))
    await lane.hold(_WARM_UP)
    await_idle(mitmdump.pid)
    before = resident(mitmdump.pid)
    await lane.hold(HELD)
    await_idle(mitmdump.pid)
    found.held.append((resident(mitmdump.pid) - before) / HELD)
    lane.close()


async def _grow(mitmdump: Program, origin: Origin, flows: int, found: _Found) -> None:
    """Memory after a tenth of the flows, in which caches and rings fill, and how it grows from then
    on."""
    job, warm_up = _job(mitmdump, origin), flows // 10
    lane = Lane(Side(mitmdump.port, ()), job)
    await lane.hold(job.connections)
    for _ in range(0, warm_up, job.requests):
        await lane.slice()
    await_idle(mitmdump.pid)
    settled, passed, deadline = resident(mitmdump.pid), 0, time.monotonic() + _LONGEST
    while passed < flows - warm_up and time.monotonic() < deadline:
        await lane.slice()
        passed += job.requests
    await_idle(mitmdump.pid)
    grown = max(resident(mitmdump.pid) - settled, 1)  # for a ratio there must be some
    found.settled, found.passed, found.growth = settled / _MB, passed, grown / passed * 1000
    lane.close()


def _job(mitmdump: Program, origin: Origin) -> Job:
    side = Side(mitmdump.port, ())
    return Job(
        sides=(side, side),
        scheme="http",
        host="localhost",
        port=origin.port("http"),
        requests=500,
        fresh=False,
        least=1,
        most=1,
        seconds=0,
    )
