"""Instructions a request that mitmdump executes, counted by valgrind's callgrind.

A count says the same on a busy machine as on an idle one. Each mitmdump runs alone, starts without
being counted, and serves one client at a time through squid. The count is of its process only. It
covers Python, the C libraries and the parts of mitmproxy in Rust, but not the kernel.
"""

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import empty_addons, programs
from tests.bench.egresses import prove
from tests.bench.load import Job, Lane, Side
from tests.bench.pairs import Aim, Row, row
from tests.bench.programs import Origin, Program

NEEDS = ("valgrind", "callgrind_control", "nginx", "squid")
STOCK_DISPATCH = (
    "from egress_policy.proxy import dispatch, log_dispatch; "
    "dispatch.take_over = log_dispatch.take_over = lambda _: None"
)
"""Runs before mitmdump starts: hooks and events of the log stay with mitmproxy's own functions."""
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)
_MILLION = 1e6
_PATIENCE = 120.0
_IDLE = 10.0

Start = Callable[[Path, Program, list[str]], AbstractContextManager[Program]]
"""Starts a mitmdump by a folder, the squid behind it and the command to run it under."""


@dataclass(frozen=True)
class Traffic:
    """One kind of load, with the requests of a batch and what the ratio to stock should be."""

    scheme: str
    fresh: bool
    requests: int
    aim: float

    @property
    def text(self) -> str:
        return f"{self.scheme}, {'fresh connections' if self.fresh else 'keep-alive'}"


TRAFFIC = (
    Traffic("http", False, 20, 0.65),
    Traffic("https", False, 20, 0.75),
    Traffic("http", True, 10, 0.85),
    Traffic("https", True, 5, 0.85),
)


def measure(batches: int) -> Iterator[Row]:
    """In place of ours each mitmdump in turn, of theirs stock mitmdump in upstream mode."""
    found: dict[str, dict[Traffic, list[float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        origin = stack.enter_context(programs.nginx(folder))
        squid = stack.enter_context(programs.squid(folder))
        for what, start in _PROGRAMS.items():
            found[what] = _counted(folder / str(len(found)), start, origin, squid, batches)
    stock, pool = found.pop(_STOCK), found.pop(_POOL)
    for kind in TRAFFIC:
        what = f"instructions, pool of ten (theirs: a single proxy): {kind.text}"
        aims = [] if kind.fresh else [Aim("ratio", "<=", _POOL_AIM)]
        yield row(what, "M/req", zip(pool[kind], found[_OURS][kind], strict=True), *aims)
        for what, counts in found.items():
            aims = [Aim("ratio", "<=", kind.aim)] if what == _OURS else []
            pairs = zip(counts[kind], stock[kind], strict=True)
            yield row(f"instructions, {what}: {kind.text}", "M/req", pairs, *aims)


def _stock(folder: Path, squid: Program, prefix: list[str]) -> AbstractContextManager[Program]:
    return programs.mitmdump(folder, *_upstream(squid), prefix=prefix)


def _with_empty_addons(
    folder: Path, squid: Program, prefix: list[str]
) -> AbstractContextManager[Program]:
    args = (*_upstream(squid), "-s", empty_addons.__file__)
    return programs.mitmdump(folder, *args, prefix=prefix)


def _ours(folder: Path, squid: Program, prefix: list[str]) -> AbstractContextManager[Program]:
    return programs.with_addon(folder, _egress(squid), prefix=prefix)


def _ours_with_stock_dispatch(
    folder: Path, squid: Program, prefix: list[str]
) -> AbstractContextManager[Program]:
    return programs.with_addon(folder, _egress(squid), prefix=prefix, before=STOCK_DISPATCH)


def _ours_with_pool(
    folder: Path, squid: Program, prefix: list[str]
) -> AbstractContextManager[Program]:
    return programs.with_addon(folder, _egress(squid), prefix=prefix, members=10)


_STOCK, _OURS, _POOL = "stock", "ours", "ours, pool of ten"
_POOL_AIM = 1.02
"""A pool may take so many times the instructions of a single proxy, while connections are kept."""
_PROGRAMS: dict[str, Start] = {
    _STOCK: _stock,
    "stock with five empty addons": _with_empty_addons,
    "ours with mitmproxy's own dispatch": _ours_with_stock_dispatch,
    _OURS: _ours,
    _POOL: _ours_with_pool,
}


def _upstream(squid: Program) -> tuple[str, str]:
    return "--mode", f"upstream:http://127.0.0.1:{squid.port}"


def _egress(squid: Program) -> dict[str, object]:
    return {"type": "http", "host": "127.0.0.1", "port": squid.port}


def _counted(
    folder: Path, start: Start, origin: Origin, squid: Program, batches: int
) -> dict[Traffic, list[float]]:
    """Millions of instructions a request, batch by batch."""
    folder.mkdir()
    out = folder / "callgrind"
    prefix = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    with start(folder, squid, prefix) as mitmdump:
        if start in (_ours, _ours_with_stock_dispatch, _ours_with_pool):
            prove(mitmdump, origin, _PATIENCE)
        counter = Counter(mitmdump, out)
        return {
            kind: asyncio.run(_batches(_job(kind, mitmdump, origin), counter, batches))
            for kind in TRAFFIC
        }


def _job(kind: Traffic, mitmdump: Program, origin: Origin) -> Job:
    side = Side(mitmdump.port, ())
    return Job(
        sides=(side, side),
        scheme=kind.scheme,
        host="localhost",
        port=origin.port(kind.scheme),
        requests=kind.requests,
        fresh=kind.fresh,
        least=1,
        most=1,
        seconds=0,
        connections=1,
    )


async def _batches(job: Job, counter: "Counter", batches: int) -> list[float]:
    lane = Lane(job.sides[0], job)
    await lane.open()
    counter.control("--instr=on")
    await counter.count(lane.slice())
    # What goes by the clock, as watching files does, counts for each request as much more as
    # valgrind is slower than the processor. It is measured and left out.
    idle = await counter.count(asyncio.sleep(_IDLE))
    found = [await counter.count(lane.slice()) for _ in range(batches)]
    counter.control("--instr=off")
    lane.close()
    return [
        (batch.instructions - idle.rate * batch.seconds) / job.requests / _MILLION
        for batch in found
    ]


@dataclass(frozen=True)
class Count:
    """Instructions that a process executed, and the seconds it took."""

    instructions: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.instructions / self.seconds


class Counter:
    """Counts the instructions of a process that runs under callgrind."""

    def __init__(self, program: Program, out: Path) -> None:
        self._pid = program.pid
        self._out = out

    async def count(self, work: Awaitable[object]) -> Count:
        """What the process does while ``work`` is done."""
        self.control("--zero")
        started = time.monotonic()
        await work
        seconds = time.monotonic() - started
        self.control("--dump")
        (dump,) = self._out.parent.glob(f"{self._out.name}.*")
        totals = _TOTALS.search(dump.read_text(errors="replace"))
        assert totals
        dump.unlink()
        return Count(int(totals[1]), seconds)

    def control(self, what: str) -> None:
        command = ["callgrind_control", what, str(self._pid)]
        subprocess.run(command, check=True, capture_output=True)
