"""The peers on the lab's hosts: third-party proxies, proxies with faults, an origin, and a
nameserver that lies on demand."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.e2e import programs
from tests.e2e.system import Program, with_files
from tests.helpers.certs import authority
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.proxies import Faults, HttpProxy, LabProxy, Socks5Proxy
from tests.lab.counters import Place
from tests.lab.hosts import FAMILIES, NAMES_V4, ORIGIN, PROXIES, RECORD, Family, Hosts

Question = tuple[str, str]
"""A name and a type."""
Kind = Literal["http", "https", "socks5", "direct"]
KINDS: tuple[Kind, ...] = ("http", "https", "socks5", "direct")
ORIGIN_NAME = "origin.lab.test"
"""The proxies know it, and so does the nameserver of mitmproxy's system, which must not be
asked."""
PROXY_NAMES = "*.lab.test"
"""The names in the certificates of https proxies."""
EXIT = PROXIES.at(9000, "ipv4")
"""The client address that the origin sees for traffic through a third-party proxy."""
_ANY = {"ipv4": "0.0.0.0", "ipv6": "::"}  # on hosts that only the lab has


class LabNameserver(Nameserver):
    """``turns`` has the answers to the first question, the second, and so on; the last one
    repeats."""

    turns: dict[Question, Sequence[Reply]]

    @property
    def place(self) -> Place:
        return self.host, self.port

    def _find(self, name: str, kind: str) -> Reply:
        if turns := self.turns.get((name, kind)):
            return turns[min(self.queries[name, kind], len(turns)) - 1]
        return super()._find(name, kind)


@dataclass(frozen=True)
class Fault:
    """A proxy of the lab with a fault; ``outcome`` is the outcome of a request."""

    title: str
    outcome: str
    faults: Faults = field(default_factory=Faults)
    status: int | None = None
    reply: int | None = None

    def proxy(self, kind: Kind, family: Family) -> LabProxy:
        tls = authority().server_context(PROXY_NAMES) if kind == "https" else None
        cls = Socks5Proxy if kind == "socks5" else HttpProxy
        made = cls(host=_ANY[family], tls=tls, faults=self.faults)
        if isinstance(made, HttpProxy):
            made.status = self.status
        elif isinstance(made, Socks5Proxy):
            made.reply = self.reply
        return made


FAULTS: Mapping[Kind, tuple[Fault, ...]] = {
    kind: (
        Fault("resets at once", "connect_refused|handshake_failed", Faults(reset="accept")),
        Fault("resets in the handshake", "handshake_failed", Faults(reset="handshake")),
        Fault("stalls at once", "handshake_failed", Faults(stall="accept")),
        Fault("stalls in the handshake", "handshake_failed", Faults(stall="handshake")),
        Fault("talks nonsense", "handshake_failed", Faults(garbage=b"\x00nonsense\r\n\r\n")),
        Fault("splits every byte", "ok", Faults(trickle=True)),
        *(
            (
                Fault("stalls before its reply", "handshake_failed", Faults(stall="reply")),
                Fault("resets before its reply", "handshake_failed", Faults(reset="reply")),
                Fault("answers 2", "handshake_failed", reply=2),
                Fault("answers 5", "handshake_failed", reply=5),
            )
            if kind == "socks5"
            else (
                Fault("answers 407", "proxy_auth", status=407),
                Fault("answers 403", "handshake_failed", status=403),
                Fault("answers 502", "handshake_failed", status=502),
            )
        ),
    )
    for kind in KINDS
    if kind != "direct"
}


@dataclass
class Peers:
    """All peers, running."""

    hosts: Hosts
    names: LabNameserver
    system: Nameserver
    """The nameserver of mitmproxy's host, for look-ups by the system."""
    origin: Program
    ports: dict[Kind, int]
    faulty: dict[tuple[Kind, Family, str], LabProxy]
    squid: Program
    danted: Program


@contextlib.asynccontextmanager
async def peers(hosts: Hosts, folder: Path) -> AsyncIterator[Peers]:
    """Start them. The thread of the caller is moved to the host of the proxies, and stays there."""
    async with AsyncExitStack() as stack:
        names = LabNameserver({}, host=NAMES_V4)
        names.turns = {}
        direct = {(ORIGIN_NAME, RECORD[family]): [ORIGIN.at(2, family)] for family in FAMILIES}
        system = Nameserver(direct, host=NAMES_V4, port=53)
        with hosts.names.entered():  # nothing else runs yet
            await stack.enter_async_context(names)
            await stack.enter_async_context(system)
        origin = programs.nginx(folder, "0.0.0.0", "::")
        origin.host = ORIGIN.at(1, "ipv4")
        await stack.enter_async_context(origin.behind(hosts.origin.prefix))
        table = folder / "proxies-hosts"
        table.write_text(f"127.0.0.1 localhost\n{ORIGIN.at(1, 'ipv4')} {ORIGIN_NAME}\n")
        known = with_files({"/etc/hosts": table})
        tinyproxy = programs.tinyproxy(folder, "0.0.0.0", "::", exit_=EXIT).behind(known)
        tls = programs.haproxy(folder, tinyproxy, "::", PROXY_NAMES)
        socks5 = programs.microsocks(folder, "::", exit_=EXIT).behind(known)
        squid = programs.squid(
            folder, PROXIES.at(9001, "ipv4"), {ORIGIN_NAME: ORIGIN.at(1, "ipv4")}, exit_=EXIT
        )
        danted = programs.danted(folder, PROXIES.at(9002, "ipv4"), exit_=EXIT).behind(known)
        for program in (tinyproxy, tls, socks5, squid, danted):
            await stack.enter_async_context(program)
        faulty: dict[tuple[Kind, Family, str], LabProxy] = {}
        for kind, faults in FAULTS.items():
            for fault in faults:
                for family in ("ipv4", "ipv6"):
                    proxy = fault.proxy(kind, family)
                    proxy.resolve = {ORIGIN_NAME: (ORIGIN.at(1, "ipv4"), origin.tls_port)}
                    faulty[kind, family, fault.title] = proxy
                    await stack.enter_async_context(proxy)
        ports: dict[Kind, int] = {
            "http": tinyproxy.port,
            "https": tls.port,
            "socks5": socks5.port,
            "direct": origin.port,
        }
        yield Peers(hosts, names, system, origin, ports, faulty, squid, danted)
