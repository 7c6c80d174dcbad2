"""mitmdump with the addon beside what people use today, over the same programs.

Each comparison starts its programs, proves that the addon decides, and measures pairs.
"""

import contextlib
import http.client
import ipaddress
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import listener, programs
from tests.bench.load import Job, Load, Round, Side
from tests.bench.pairs import Aim, Row, row
from tests.bench.programs import Origin, Program
from tests.helpers.ports import free_port

Programs = tuple[Program, ...]
"""The mitmdump, then all that works for it alone or for both; the origin is left out."""

Setup = Callable[[ExitStack, Path], tuple[Programs, Programs]]
"""Starts what is compared: ours and theirs."""


@dataclass(frozen=True)
class Traffic:
    """One kind of load and what it should come to. `requests` are those of one slice."""

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


def _squid(stack: ExitStack, folder: Path) -> tuple[Programs, Programs]:
    squid = stack.enter_context(programs.squid(folder))
    egress: dict[str, object] = {"type": "http", "host": "127.0.0.1", "port": squid.port}
    ours = stack.enter_context(programs.with_addon(folder, egress))
    theirs = stack.enter_context(_stock(folder, f"127.0.0.1:{squid.port}"))
    return (ours, squid), (theirs, squid)


def _squid_by_name(stack: ExitStack, folder: Path) -> tuple[Programs, Programs]:
    squid = stack.enter_context(programs.squid(folder))
    ip = programs.localhost()[0]
    family = f"ipv{ipaddress.ip_address(ip).version}"
    egress: dict[str, object] = {"host": "localhost", "port": squid.port, "family": family}
    ours = stack.enter_context(programs.with_addon(folder, egress, f"{ip} localhost"))
    theirs = stack.enter_context(_stock(folder, f"localhost:{squid.port}"))
    return (ours, squid), (theirs, squid)


def _pool(stack: ExitStack, folder: Path) -> tuple[Programs, Programs]:
    """Both with the addon: a pool of ten beside a single proxy."""
    squid = stack.enter_context(programs.squid(folder))
    egress: dict[str, object] = {"type": "http", "host": "127.0.0.1", "port": squid.port}
    for side in ("pool", "single"):
        (folder / side).mkdir()
    ours = stack.enter_context(programs.with_addon(folder / "pool", egress, members=10))
    theirs = stack.enter_context(programs.with_addon(folder / "single", egress))
    return (ours, squid), (theirs, squid)


def _page(stack: ExitStack, folder: Path) -> tuple[Programs, Programs]:
    """Both with the addon: the page is open in one, and in nobody's browser in the other."""
    squid = stack.enter_context(programs.squid(folder))
    egress: dict[str, object] = {"type": "http", "host": "127.0.0.1", "port": squid.port}
    for side in ("open", "closed"):
        (folder / side).mkdir()
    page = free_port()
    ours = stack.enter_context(programs.with_addon(folder / "open", egress, page=page))
    theirs = stack.enter_context(programs.with_addon(folder / "closed", egress))
    listener.await_api(page)
    stack.enter_context(programs.watcher(folder / "open", page))
    return (ours, squid), (theirs, squid)


def _socks5(stack: ExitStack, folder: Path) -> tuple[Programs, Programs]:
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
            Traffic("https", False, 48, rate=1.15),
            Traffic("http", False, 48, rate=1.20),
            Traffic("https", True, 16, rate=1.05),
            Traffic("http", True, 24, rate=1.05),
        ),
    ),
    Comparison(
        "squid by hostname, pinned",
        ("nginx", "squid"),
        _squid_by_name,
        (Traffic("https", True, 16, rate=1.00), Traffic("http", True, 24, rate=1.00)),
    ),
    Comparison(
        "pool of ten, theirs a single proxy",
        ("nginx", "squid"),
        _pool,
        (
            Traffic("https", False, 48, rate=0.98),
            Traffic("http", False, 48, rate=0.98),
            Traffic("https", True, 16),
            Traffic("http", True, 24),
        ),
    ),
    Comparison(
        "page open, theirs closed",
        ("nginx", "squid"),
        _page,
        (
            Traffic("https", False, 192, rate=0.99),
            Traffic("http", False, 192, rate=0.99),
            Traffic("https", True, 48, rate=0.99),
            Traffic("http", True, 64, rate=0.99),
        ),
    ),
    Comparison(
        "SOCKS5, theirs by privoxy",
        ("nginx", "microsocks", "privoxy"),
        _socks5,
        (
            Traffic("https", False, 48, rate=1.20, cpu=0.90),
            Traffic("http", False, 48, rate=1.20, cpu=0.90),
            Traffic("https", True, 16, rate=1.05, cpu=0.90),
            Traffic("http", True, 24, rate=1.05, cpu=0.90),
        ),
    ),
)


def missing(comparison: Comparison) -> list[str]:
    return [name for name in comparison.needs if programs.find(name) is None]


@dataclass(frozen=True)
class Effort:
    """How often everything is started, and how long each kind of traffic may take each time.

    A process is faster or slower for as long as it lives, so one start says little.
    """

    starts: int
    least: int
    most: int
    seconds: float


def measure(comparison: Comparison, effort: Effort) -> list[Row]:
    """Rows of requests a second and of CPU time a request, two for each kind of traffic."""
    found: dict[Traffic, list[tuple[Round, Round]]] = {kind: [] for kind in comparison.traffic}
    for _ in range(effort.starts):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            origin = stack.enter_context(programs.nginx(folder))
            ours, theirs = comparison.setup(stack, folder)
            load = stack.enter_context(Load())
            prove(ours[0], origin)
            for kind in comparison.traffic:
                found[kind] += load.run(_job(kind, effort, origin, ours, theirs))
    return [line for kind in found for line in _rows(comparison, kind, found[kind])]


def _job(kind: Traffic, effort: Effort, origin: Origin, ours: Programs, theirs: Programs) -> Job:
    return Job(
        sides=(_side(ours), _side(theirs)),
        scheme=kind.scheme,
        host="localhost",
        port=origin.port(kind.scheme),
        requests=kind.requests,
        fresh=kind.fresh,
        least=effort.least,
        most=effort.most,
        seconds=effort.seconds,
    )


def _side(started: Programs) -> Side:
    return Side(started[0].port, tuple(program.pid for program in started))


def _rows(comparison: Comparison, kind: Traffic, rounds: list[tuple[Round, Round]]) -> list[Row]:
    what = f"{comparison.title}: {kind.text}"
    rates = [(ours.rate, theirs.rate) for ours, theirs in rounds]
    cpu = [(ours.cpu_ms, theirs.cpu_ms) for ours, theirs in rounds]
    rate_aims = [Aim("ratio", ">=", kind.rate)] if kind.rate else []
    cpu_aims = [Aim("ratio", "<=", kind.cpu)] if kind.cpu else []
    return [row(what, "req/s", rates, *rate_aims), row(what, "CPU ms/req", cpu, *cpu_aims)]


def prove(mitm: Program, origin: Origin, patience: float = 30) -> None:
    """What the policy does not name must be refused, or the addon is not what is measured."""
    client = http.client.HTTPConnection("127.0.0.1", mitm.port, timeout=patience)
    with contextlib.closing(client):
        client.request("GET", f"http://127.0.0.1:{origin.http}/")
        if client.getresponse().getheader("x-egress-error") != "EGRESS_REFUSED":
            raise RuntimeError("mitmdump runs without the addon")
