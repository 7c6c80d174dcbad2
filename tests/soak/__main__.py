"""`python -m tests.soak [SECONDS]`: load on four egresses under edits, flapping proxies and attacks
on the management listener.

Prints the results beside their bounds, and ends with 1 if a bound is broken.
"""

import asyncio
import contextlib
import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.system import Program
from tests.lab.counters import PacketCounters
from tests.lab.hosts import Hosts
from tests.soak.attacks import Attacks
from tests.soak.clients import echoing, held, http2, wrk
from tests.soak.report import Line, report
from tests.soak.scene import Left, Soak, scene

HELD = 1000
ANSWERS = 5
"""Answers a second that must come by the right egress, of each kind of client."""
GROWTH = 1.0
"""MiB by which the C library's memory in use may grow after the warm-up."""
BLOCKS = 5_000
"""Blocks by which Python's memory may grow after the warm-up."""
RESIDENT = 32.0
"""MiB by which the memory of the process may grow. A few remaining blocks keep whole arenas, so it
varies by ten MiB between runs without a leak."""
KEPT = 10
"""There must be fewer unused connections, and flows, than this: none, but for one in a last
frame."""
WAIT = 2.0
"""Seconds that an answer may take while the management listener is attacked."""
_WARM_UP = 0.4
"""Share of the time."""


def main() -> int:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 180
    try:
        with Hosts() as hosts, hosts.mitm.entered(), PacketCounters(hosts.mitm) as counters:
            lines = asyncio.run(_soak(hosts, counters, seconds))
    except pytest.skip.Exception as reason:
        print(f"The soak was not run: {reason}")
        return 0
    except pytest.fail.Exception as reason:
        print(f"The soak cannot be run: {reason}")
        return 1
    return report(lines)


async def _soak(hosts: Hosts, counters: PacketCounters, seconds: int) -> Sequence[Line]:
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        async with scene(hosts, Path(name)) as under:
            sent, sockets, first = counters.read(), under.sockets, await under.left()
            warm, attacks = int(seconds * _WARM_UP), Attacks(under)
            echoed, plain, streams = await _load(under, attacks, warm)
            await _settle(under, sockets)
            warmed, before = await under.left(), under.rss
            more_echoed, more_plain, more_streams = await _load(under, attacks, seconds - warm)
            await _settle(under, sockets)
            last = await under.left()  # what is garbage by then does not count
            grown = under.rss - before
            beyond = await _settle(under, sockets)
            seen = counters.read().since(sent)
            stray = {p: n for p, n in seen.syn.items() if p not in under.places} | seen.udp
    tasks = Counter(last.tasks) - Counter(first.tasks)
    echoed = min(echoed, more_echoed)
    plain += more_plain
    streams += more_streams
    calm, longest = attacks.longest.pop("", 0.0), attacks.longest
    worst = max(longest, key=lambda kind: longest[kind])
    return [
        Line("tunnels over SOCKS5 that echo, all along", echoed, f"{HELD}", echoed == HELD),
        *_answers("plain requests", plain, seconds),
        *_answers("HTTP/2 streams", streams, seconds),
        Line("HTTP/2 connections cut", streams["cut"], "", True),
        Line("edits of the policy", under.edits, "> 0", under.edits > 0),
        Line("packets that no egress allows", stray or 0, "0", not stray),
        *_memory(warmed, last),
        Line(
            "resident memory beyond the warm-up, MiB",
            f"{grown:.1f}",
            f"< {RESIDENT:g}",
            grown < RESIDENT,
        ),
        Line("sockets beyond those at the start", beyond, "0", beyond == 0),
        Line("connections kept in memory", last.connections, f"< {KEPT}", last.connections < KEPT),
        Line("flows kept in memory", last.flows, f"< {KEPT}", last.flows < KEPT),
        Line(
            "tasks beyond those at the start",
            dict(tasks) or 0,
            f"< {KEPT}",
            tasks.total() < KEPT,  # one that serves the question may have come and gone
        ),
        Line("attacks on the listener, by kind", len(longest), "> 0", bool(longest)),
        Line("changes that were asked for again", under.repeated, "", True),
        Line("longest wait for an answer, s", f"{calm:.2f}", "", True),
        Line(
            f"longest wait under an attack ({worst}), s",
            f"{longest[worst]:.2f}",
            f"< {WAIT:g}",
            longest[worst] < WAIT,
        ),
    ]


def _answers(what: str, counts: Counter[str], seconds: int) -> Iterator[Line]:
    """Refusals are no measure of answers: while a circuit is open they cost next to nothing, and a
    client gets thousands."""
    right, refused, wrong = counts["right"], counts["refused"], counts["wrong"]
    least = ANSWERS * seconds
    yield Line(f"{what} by the right egress", right, f"> {least}", right > least)
    yield Line(f"{what} refused", refused, "", True)
    yield Line(f"{what} by a wrong egress", wrong, "0", not wrong)


def _memory(warmed: Left, last: Left) -> Iterator[Line]:
    more = last.allocated - warmed.allocated
    yield Line("allocated beyond the warm-up, MiB", f"{more:.2f}", f"< {GROWTH:g}", more < GROWTH)
    blocks = last.blocks - warmed.blocks
    yield Line("Python's blocks beyond the warm-up", blocks, f"< {BLOCKS}", blocks < BLOCKS)


async def _load(
    under: Soak, attacks: Attacks, seconds: int
) -> tuple[int, Counter[str], Counter[str]]:
    """Held tunnels, which echo before and after, plain requests, and HTTP/2 streams."""
    async with held(under, HELD) as tunnels:
        before = await echoing(tunnels)
        plain, streams = await _requests(under, attacks, seconds)
        return min(before, await echoing(tunnels)), plain, streams


async def _requests(
    under: Soak, attacks: Attacks, seconds: int
) -> tuple[Counter[str], Counter[str]]:
    streams: Counter[str] = Counter()
    over = asyncio.Event()
    flapping = itertools.cycle(under.flapping)
    async with asyncio.TaskGroup() as beside:
        beside.create_task(_every(1, under.edit, over))
        beside.create_task(_every(2, lambda: _restart(next(flapping)), over))
        beside.create_task(attacks.go_on(over))
        endless = beside.create_task(http2(under, streams))
        plain = await wrk(under, seconds)
        over.set()
        endless.cancel()
    return plain, streams


async def _every(seconds: float, act: Callable[[], Awaitable[None]], over: asyncio.Event) -> None:
    """Act at this pace until the end; an action that has begun is finished."""
    while not over.is_set():
        try:
            await asyncio.wait_for(over.wait(), seconds)
        except TimeoutError:
            await act()


async def _restart(proxy: Program) -> None:
    await proxy.end()
    await asyncio.sleep(0.5)  # the time that it is away
    await proxy.__aenter__()


async def _settle(under: Soak, sockets: int) -> int:
    """Wait until the sockets of the load are closed. Returns how many are left over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while under.sockets > sockets:
                await asyncio.sleep(0.2)  # the process does not tell
    return max(0, under.sockets - sockets)


if __name__ == "__main__":
    sys.exit(main())
