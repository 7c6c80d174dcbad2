"""mitmdump with the addon beside what people use today, over the same programs.

Each comparison starts its programs, proves that the addon decides, warms up, and measures pairs.
"""

import ipaddress
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import programs
from tests.bench.load import Job, Load, LoadError
from tests.bench.pairs import Aim, Extent, Row, alternate, row
from tests.bench.programs import Origin, Program

Side = tuple[Program, ...]
"""The mitmdump, then all that works for it alone or for both; the origin is left out."""

Setup = Callable[[ExitStack, Path], tuple[Side, Side]]


@dataclass(frozen=True)
class Traffic:
    """One kind of load and what it should come to. `requests` are those of one round."""

    scheme: str
    fresh: bool
    requests: int
    rate: float | None = None
    cpu: float | None = None

    @property
    def text(self) -> str:
        return f"{self.scheme}, {'fresh connections' if self.fresh else 'keep-alive'}"


@dataclass(frozen=True)
class Comparison:
    """`needs` are the programs without which it is left out."""

    title: str
    needs: tuple[str, ...]
    setup: Setup
    traffic: tuple[Traffic, ...]


def _squid(stack: ExitStack, folder: Path) -> tuple[Side, Side]:
    squid = stack.enter_context(programs.squid(folder))
    egress: dict[str, object] = {"type": "http", "host": "127.0.0.1", "port": squid.port}
    ours = stack.enter_context(programs.with_addon(folder, egress))
    theirs = stack.enter_context(_stock(folder, f"127.0.0.1:{squid.port}"))
    return (ours, squid), (theirs, squid)


def _squid_by_name(stack: ExitStack, folder: Path) -> tuple[Side, Side]:
    squid = stack.enter_context(programs.squid(folder))
    ip = programs.localhost()[0]
    family = f"ipv{ipaddress.ip_address(ip).version}"
    egress: dict[str, object] = {"host": "localhost", "port": squid.port, "family": family}
    ours = stack.enter_context(programs.with_addon(folder, egress, f"{ip} localhost"))
    theirs = stack.enter_context(_stock(folder, f"localhost:{squid.port}"))
    return (ours, squid), (theirs, squid)


def _socks5(stack: ExitStack, folder: Path) -> tuple[Side, Side]:
    socks5 = stack.enter_context(programs.microsocks(folder))
    privoxy = stack.enter_context(programs.privoxy(folder, socks5))
    egress: dict[str, object] = {"type": "socks5", "host": "127.0.0.1", "port": socks5.port}
    ours = stack.enter_context(programs.with_addon(folder, egress))
    theirs = stack.enter_context(_stock(folder, f"127.0.0.1:{privoxy.port}"))
    return (ours, socks5), (theirs, privoxy, socks5)


def _stock(folder: Path, upstream: str) -> AbstractContextManager[Program]:
    return programs.mitmdump(folder, "--mode", f"upstream:http://{upstream}")


COMPARISONS = (
    Comparison(
        "squid by IP literal",
        ("nginx", "squid"),
        _squid,
        (
            Traffic("https", False, 300, rate=0.97),
            Traffic("http", False, 300, rate=0.97),
            Traffic("https", True, 50, rate=0.90),
            Traffic("http", True, 120, rate=0.90),
        ),
    ),
    Comparison(
        "squid by hostname, pinned",
        ("nginx", "squid"),
        _squid_by_name,
        (Traffic("https", True, 50, rate=1.00), Traffic("http", True, 120, rate=1.00)),
    ),
    Comparison(
        "SOCKS5, theirs by privoxy",
        ("nginx", "microsocks", "privoxy"),
        _socks5,
        (
            Traffic("https", False, 300, rate=1.00, cpu=0.90),
            Traffic("http", False, 300, rate=1.00, cpu=0.90),
            Traffic("https", True, 50, rate=1.00, cpu=0.90),
        ),
    ),
)


def missing(comparison: Comparison) -> list[str]:
    return [name for name in comparison.needs if programs.find(name) is None]


def measure(comparison: Comparison, starts: int, extent: Extent, scale: float) -> list[Row]:
    """Rows of requests a second and of CPU time a request, two for each kind of traffic.

    All programs are started `starts` times, as a process is faster or slower for as long as it
    lives; `extent` is for each time and kind of traffic. `scale` shortens the rounds.
    """
    found: dict[Traffic, list[tuple[Round, Round]]] = {kind: [] for kind in comparison.traffic}
    for _ in range(starts):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            origin = stack.enter_context(programs.nginx(folder))
            ours, theirs = comparison.setup(stack, folder)
            load = stack.enter_context(Load())
            _prove(load, ours[0], origin)
            for kind in comparison.traffic:
                found[kind] += _pairs(load, kind, scale, origin, ours, theirs, extent)
    return [line for kind in found for line in _rows(comparison, kind, found[kind])]


@dataclass(frozen=True)
class Round:
    """Requests a second, and milliseconds of CPU time a request over all programs of a side."""

    rate: float
    cpu: float


def _pairs(
    load: Load,
    kind: Traffic,
    scale: float,
    origin: Origin,
    ours: Side,
    theirs: Side,
    extent: Extent,
) -> list[tuple[Round, Round]]:
    requests = max(1, round(kind.requests * scale))

    def one(side: Side) -> Round:
        job = _job(side[0], origin, kind.scheme, requests, kind.fresh)
        before = _cpu(side)
        seconds = load.run(job)
        return Round(requests / seconds, (_cpu(side) - before) / requests * 1000)

    for side in (ours, theirs):
        load.run(_job(side[0], origin, kind.scheme, max(1, requests // 2), kind.fresh))
    return alternate(lambda: one(ours), lambda: one(theirs), extent)


def _rows(comparison: Comparison, kind: Traffic, rounds: list[tuple[Round, Round]]) -> list[Row]:
    what = f"{comparison.title}: {kind.text}"
    rates = [(ours.rate, theirs.rate) for ours, theirs in rounds]
    cpu = [(ours.cpu, theirs.cpu) for ours, theirs in rounds]
    rate_aims = [Aim("ratio", ">=", kind.rate)] if kind.rate else []
    cpu_aims = [Aim("ratio", "<=", kind.cpu)] if kind.cpu else []
    return [row(what, "req/s", rates, *rate_aims), row(what, "CPU ms/req", cpu, *cpu_aims)]


def _cpu(side: Side) -> float:
    return sum(program.cpu_seconds() for program in side)


def _job(mitm: Program, origin: Origin, scheme: str, requests: int, fresh: bool) -> Job:
    return Job(mitm.port, scheme, "localhost", origin.port(scheme), requests, fresh)


def _prove(load: Load, mitm: Program, origin: Origin) -> None:
    """What the policy does not name must be refused, or the addon is not what is measured."""
    try:
        load.run(Job(mitm.port, "http", "127.0.0.1", origin.http, 1, True, 1))
    except LoadError as error:
        if "EGRESS_REFUSED" in str(error):
            return
        raise
    raise RuntimeError("mitmdump runs without the addon")
