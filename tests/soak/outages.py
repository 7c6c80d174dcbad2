"""`python -m tests.soak.outages [SECONDS]`: pools of five proxies under load, of which one is away
for SECONDS (20 by default), and then all are dead.

There is a pool of each kind of proxy. Each member has an address of its own, and another one from
which it connects to the origin, so that each answer tells by which member it came. Prints the
results beside their bounds, and ends with 1 if a bound is broken.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import programs
from tests.e2e.mitmdump import EgressMitmdump, egress
from tests.e2e.programs import PASSWORD, USERNAME
from tests.e2e.system import Program
from tests.helpers.steady import Answer, BusyClients, SteadyClients
from tests.lab.counters import PacketCounters, Place
from tests.lab.hosts import ORIGIN, PROXIES, Hosts
from tests.soak.report import Line, at_most, figure, none, report

KINDS = ("http", "https", "socks5")
MEMBERS = 5
PACE = 0.05
"""Seconds between two requests: 20 a second for one pool."""
CLIENTS = 3
"""Clients of each pool at full speed."""
SHORT_OUTAGES = 3
"""Members that are killed until their circuit opens, for a median."""
TO_OPEN, CPU = 1.0, 5.0
"""Seconds until a circuit opens, in the median; milliseconds of CPU time for a refusal."""
SHARE, LEAST = 0.3, 10.0
"""A member is used again within this share of its outage, or these seconds."""
ALL_DEAD = 20.0
"""Seconds of load while all members are dead."""
_PATIENCE = 60.0


@dataclass(frozen=True)
class Member:
    """A proxy: its program, its place, and the address from which it connects to the origin."""

    name: str
    program: Program
    place: Place
    exit: str


@dataclass
class Outage:
    """When a member was killed and started again, and how long it took until its circuit was open
    and until it was used again. In seconds; the moments are on the monotonic clock."""

    killed: float
    to_open: float = 0.0
    away: float = 0.0
    to_return: float = 0.0

    @property
    def bound(self) -> float:
        """Within how many seconds the member must be used again."""
        return max(SHARE * self.away, LEAST)


@dataclass
class Scene:
    mitm: EgressMitmdump
    origin: Program
    pools: dict[str, list[Member]]
    outages: list[Outage] = field(default_factory=list)

    @property
    def urls(self) -> tuple[str, str]:
        return self.origin.url("http"), self.origin.url("https")

    @property
    def places(self) -> set[Place]:
        """All places that mitmproxy's host may dial."""
        return {member.place for pool in self.pools.values() for member in pool}

    @property
    def cpu(self) -> float:
        """Seconds of CPU time that mitmdump has used."""
        stat = Path(f"/proc/{self.mitm._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    async def outage(self, clients: SteadyClients, member: Member, seconds: float) -> Outage:
        """Kill a member, and start it again after this time but not before its circuit is open.
        Returns once it is used again."""
        said = len(self.mitm.lines)

        def is_open() -> bool:
            new = self.mitm.lines[said:]
            return any(f"proxy {member.name}: circuit opened" in line for line in new)

        await member.program.kill()
        outage = Outage(time.monotonic())
        self.outages.append(outage)
        await self.mitm._watch.until(is_open, _PATIENCE)
        outage.to_open = time.monotonic() - outage.killed
        await asyncio.sleep(max(0.0, seconds - outage.to_open))  # it is away for so long
        await member.program.__aenter__()
        started = time.monotonic()
        outage.away = started - outage.killed
        await clients.until_peer(member.exit, 1, _PATIENCE)
        outage.to_return = time.monotonic() - started
        return outage


def source(kind: str) -> str:
    """The address of the clients whose pool is of this kind."""
    return f"127.1.0.{KINDS.index(kind) + 1}"


def _programs(folder: Path, kind: str, address: str, exit_: str) -> list[Program]:
    """The program of a member, and before it what it needs."""
    if kind == "http":
        return [programs.tinyproxy(folder, address, exit_=exit_)]
    if kind == "socks5":
        return [programs.microsocks(folder, address, exit_=exit_)]
    behind = programs.tinyproxy(folder, address, exit_=exit_)
    return [behind, programs.haproxy(folder, behind, address, "*.lab.test")]


@asynccontextmanager
async def scene(hosts: Hosts, folder: Path) -> AsyncIterator[Scene]:
    """Start everything. The caller's thread is on mitmproxy's host."""
    pools: dict[str, list[Member]] = {kind: [] for kind in KINDS}
    known: dict[str, Sequence[str]] = {}
    async with AsyncExitStack() as stack:
        origin = programs.nginx(folder, "0.0.0.0").behind(hosts.origin.prefix)
        origin.host = ORIGIN.at(1, "ipv4")
        await stack.enter_async_context(origin)
        for number, kind in enumerate(KINDS * MEMBERS, 1):
            address, exit_ = PROXIES.at(number, "ipv4"), PROXIES.at(100 + number, "ipv4")
            for program in _programs(folder, kind, address, exit_):
                await stack.enter_async_context(program.behind(hosts.proxies.prefix))
            name = f"{kind}-{number}"
            pools[kind].append(Member(name, program, (address, program.port), exit_))
            known[f"{name}.lab.test"] = [address]
        mitm = egress(
            folder,
            policy=_policy(pools),
            hosts=known,
            ssl_insecure=True,  # the origin's certificate is not for its address
            flow_detail=0,
        )
        await stack.enter_async_context(mitm)
        yield Scene(mitm, origin, pools)


def _policy(pools: dict[str, list[Member]]) -> dict[str, Any]:
    account = {"username": USERNAME, "password": PASSWORD}
    return {
        "proxies": [
            {
                "name": member.name,
                "type": kind,
                "host": f"{member.name}.lab.test",
                "port": member.program.port,
                "family": "ipv4",
                **(account if kind == "socks5" else {}),
            }
            for kind, members in pools.items()
            for member in members
        ],
        "pools": [
            {
                "name": kind,
                "members": [member.name for member in members],
                "strategy": "round-robin",
                "failover": 1,
            }
            for kind, members in pools.items()
        ],
        "rules": [{"clients": [source(kind)], "use": kind} for kind in pools],
        "default": "direct",
    }


async def steady(under: Scene, kind: str, seconds: float) -> Iterable[Line]:
    """20 requests a second by one pool. One member after the other is killed."""
    members = under.pools[kind]
    clients = SteadyClients(under.mitm.port, under.mitm.ca_cert, under.urls, PACE, source(kind))
    began = time.monotonic()
    async with clients.sending():
        await clients.until_peer(members[-1].exit, 2)
        short = [await under.outage(clients, one, 0.0) for one in members[:SHORT_OUTAGES]]
        long = await under.outage(clients, members[-1], seconds)
        lasted = time.monotonic() - began
    what = f"{kind}, 20 requests a second"
    sent = figure(f"{what}: as sent", f"{len(clients.answers) / lasted:.1f}")
    return [sent, *_errors(what, clients.answers, [*short, long]), *_times(what, short, long)]


async def full_speed(under: Scene, seconds: float) -> Iterable[Line]:
    """As many requests as are answered, by all pools at once. One member of each is away."""
    load = {
        kind: BusyClients(under.mitm.port, under.mitm.ca_cert, under.urls, CLIENTS, source(kind))
        for kind in KINDS
    }
    async with AsyncExitStack() as stack:
        for clients in load.values():
            await stack.enter_async_context(clients.sending())
        began = time.monotonic()
        killed = [(kind, under.pools[kind][0]) for kind in KINDS]
        outages = await asyncio.gather(
            *(under.outage(load[kind], member, seconds) for kind, member in killed)
        )
        lasted = time.monotonic() - began
    lines: list[Line] = []
    for kind, outage in zip(KINDS, outages, strict=True):
        what = f"{kind}, full speed"
        lines += _errors(what, load[kind].answers, [outage])
        lines += _times(what, [], outage)
    answered = sum(answer.began >= began for one in load.values() for answer in one.answers)
    return [*lines, figure("full speed: requests a second", f"{answered / lasted:.0f}")]


def _errors(what: str, answers: Sequence[Answer], outages: Sequence[Outage]) -> Iterator[Line]:
    """What a standing tunnel carries when its proxy dies is lost, as nobody knows how far it came.
    All other requests must be answered."""
    failed = [answer for answer in answers if answer.status != 200]
    carried = [a for a in failed if any(a.began <= one.killed <= a.ended for one in outages)]
    others = Counter(f"{a.status} {a.reason}" for a in failed if a not in carried)
    yield figure(f"{what}: requests", len(answers))
    yield none(f"{what}: errors", dict(others))
    yield figure(f"{what}: carried when it died", len(carried))


def _times(what: str, opened: Sequence[Outage], long: Outage) -> Iterator[Line]:
    to_open = statistics.median([one.to_open for one in (*opened, long)])
    yield figure(f"{what}: s to open, p50", f"{to_open:.2f}")
    yield at_most(f"{what}: s to return after {long.away:.0f} s", long.to_return, long.bound)


async def all_dead(under: Scene, counters: PacketCounters) -> Iterable[Line]:
    """All members of all pools are dead: what a refusal costs, and what is sent all the same."""
    for member in (member for pool in under.pools.values() for member in pool):
        await member.program.kill()
    load = [
        BusyClients(under.mitm.port, under.mitm.ca_cert, under.urls, 1, source(kind))
        for kind in KINDS
    ]
    async with AsyncExitStack() as stack:
        for clients in load:
            await stack.enter_async_context(clients.sending())
        for clients in load:
            await clients.until(lambda answer: answer.reason == "circuit_open", 20)
        before, cpu, began = counters.read(), under.cpu, time.monotonic()
        await asyncio.sleep(ALL_DEAD)
        sent, used = counters.read().since(before).syn, under.cpu - cpu
        lasted = time.monotonic() - began
    answers = [answer for clients in load for answer in clients.since(began)]
    reasons = Counter(answer.reason for answer in answers)
    trials = reasons.pop("connect_refused", 0)  # a live request may be the trial of a circuit
    refused = reasons.pop("circuit_open", 0)
    took = statistics.median(answer.ended - answer.began for answer in answers) * 1000
    return [
        figure("all dead: refused with circuit_open", refused),
        figure("all dead: requests that were a trial", trials),
        none("all dead: other answers", dict(reasons)),
        at_most("all dead: ms of CPU for an answer", used / max(1, len(answers)) * 1000, CPU),
        figure("all dead: ms for an answer, p50", f"{took:.1f}"),
        at_most(
            "all dead: TCP SYN a second for a pool",
            sum(sent[place] for place in under.places) / lasted / len(KINDS),
            1.0,
        ),
    ]


async def _run(hosts: Hosts, counters: PacketCounters, seconds: float) -> Sequence[Line]:
    with tempfile.TemporaryDirectory(prefix="outages-") as name:
        async with scene(hosts, Path(name)) as under:
            lines: list[Line] = []
            before = counters.read()
            for kind in KINDS:
                lines += await steady(under, kind, seconds)
            lines += await full_speed(under, seconds)
            to_open = statistics.median(outage.to_open for outage in under.outages)
            what = f"s to open, p50 of all {len(under.outages)} outages"
            lines.append(at_most(what, to_open, TO_OPEN))
            lines += await all_dead(under, counters)
            seen = counters.read().since(before)
            stray = {p: n for p, n in seen.syn.items() if p not in under.places} | seen.udp
            return [*lines, none("packets to any other place", stray)]


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    try:
        with Hosts() as hosts, hosts.mitm.entered(), PacketCounters(hosts.mitm) as counters:
            return report(asyncio.run(_run(hosts, counters, seconds)))
    except pytest.skip.Exception as reason:
        print(f"The outages were not run: {reason}")
        return 0
    except pytest.fail.Exception as reason:
        print(f"The outages cannot be run: {reason}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
