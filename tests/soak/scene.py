"""The system under load: mitmdump with four egresses, proxies that flap, and a changing policy."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e import programs
from tests.e2e.node import Node
from tests.e2e.programs import PASSWORD, USERNAME
from tests.e2e.system import Program, open_sockets, with_files
from tests.helpers.mitm import Mitmdump
from tests.helpers.origin import TcpEcho
from tests.helpers.scene import write_policy
from tests.lab.hosts import ORIGIN, PROXIES, Hosts
from tests.soak.left import SOCKET

LEFT = Path(__file__).with_name("left.py")
DIRECT_PEER = "fd00:2::1"
"""The client address that the origin sees for mitmproxy's own host."""
PEERS = {
    "http": PROXIES.at(101, "ipv4"),
    "https": PROXIES.at(102, "ipv4"),
    "socks5": PROXIES.at(103, "ipv4"),
}
"""The client address that the origin sees for traffic through a proxy."""
STEADY = "steady"
"""The proxy for the echo, which never flaps."""
FIXED = {"socks5": "fixed.lab.test", "direct": "direct.lab.test"}
"""Hosts that always leave by the same egress."""
SWAPPED = ("left.lab.test", "right.lab.test")
"""Hosts whose proxies, http and https, swap with each edit."""
ECHO = "echo.lab.test"


@dataclass(frozen=True)
class Left:
    """What a mitmproxy keeps in memory: connections and flows, its tasks by kind, the blocks that
    Python has given out, and the MiB of the C library."""

    connections: int
    flows: int
    tasks: dict[str, int]
    blocks: int
    allocated: float


async def ask_left(mitm: Mitmdump) -> Left:
    """The report of a mitmproxy that runs ``left.py``."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_unix_connection(mitm.confdir / SOCKET)
        left = Left(**json.loads(await reader.read()))
        writer.close()
        await writer.wait_closed()
    return left


def rss_of(pid: int) -> float:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Soak:
    """``flapping`` are proxies that may be ended and started again."""

    hosts: Hosts
    mitm: Node
    origin: Program
    echo: TcpEcho
    flapping: Sequence[Program]
    ports: dict[str, int]
    rules: list[str]
    """Ids of the rules of the swapped hosts."""
    edits: int = 0
    settled: bool = True
    """Whether the last edit is in force."""
    repeated: int = 0
    """Changes that had to be repeated."""

    @property
    def pid(self) -> int:
        return self.mitm._process.pid

    @property
    def expected(self) -> dict[str, str]:
        """The peer by which each host must leave now."""
        return {
            **{host: PEERS[use] for host, use in zip(SWAPPED, _exits(self.edits), strict=True)},
            FIXED["socks5"]: PEERS["socks5"],
            FIXED["direct"]: DIRECT_PEER,
        }

    @property
    def places(self) -> set[tuple[str, int]]:
        """All places that mitmproxy's host may dial."""
        over_ipv4 = ((PROXIES.at(1, "ipv4"), self.ports[p]) for p in ("http", "socks5", STEADY))
        return {
            *over_ipv4,
            (PROXIES.at(1, "ipv6"), self.ports["https"]),
            (ORIGIN.at(1, "ipv6"), self.origin.port),
            (ORIGIN.at(1, "ipv6"), self.origin.tls_port),
        }

    async def edit(self) -> None:
        """Swap the proxies of the swapped hosts. Returns once that is in force. A listener under
        attack may close any connection, so the request is repeated."""
        self.edits, self.settled = self.edits + 1, False
        for rule, use in zip(self.rules, _exits(self.edits), strict=True):
            async with asyncio.timeout(60):
                while not await self._change(rule, use):
                    self.repeated += 1
        self.settled = True

    async def _change(self, rule: str, use: str) -> bool:
        try:
            await self.mitm.change("PATCH", "/rules", id=rule, use=use)
        except httpx.TransportError:
            return False
        return True

    async def left(self) -> Left:
        """What it keeps, after garbage collection and after free memory was given back."""
        return await ask_left(self.mitm)

    @property
    def rss(self) -> float:
        """Resident memory in MiB."""
        return rss_of(self.pid)

    @property
    def sockets(self) -> int:
        """Open sockets."""
        return open_sockets(self.pid)


def _exits(edits: int) -> tuple[str, str]:
    """The proxies of the swapped hosts after this many edits."""
    return ("http", "https") if edits % 2 == 0 else ("https", "http")


def _policy(ports: dict[str, int]) -> dict[str, Any]:
    account = {"username": USERNAME, "password": PASSWORD}
    return {
        "proxies": [
            {"name": "http", "host": "proxy.lab.test", "family": "ipv4", "port": ports["http"]},
            {
                "name": "https",
                "type": "https",
                "host": "proxy.lab.test",
                "family": "ipv6",
                "port": ports["https"],
            },
            *(
                {
                    "name": name,
                    "type": "socks5",
                    "host": "proxy.lab.test",
                    "family": "ipv4",
                    "port": ports[name],
                    **account,
                }
                for name in ("socks5", STEADY)
            ),
        ],
        "rules": [
            {"hosts": [FIXED["socks5"]], "use": "socks5"},
            {"hosts": [ECHO], "use": STEADY},
            {"hosts": [FIXED["direct"]], "use": "direct", "family": "ipv6"},
        ],
    }


@contextlib.asynccontextmanager
async def scene(hosts: Hosts, folder: Path) -> AsyncIterator[Soak]:
    """Start everything. The thread of the caller is moved to mitmproxy's host, and stays there."""
    v4 = ORIGIN.at(1, "ipv4")
    names = [*SWAPPED, *FIXED.values()]
    table = folder / "proxies-hosts"
    table.write_text("".join(f"{v4} {name}\n" for name in (*names, ECHO)) + "127.0.0.1 localhost\n")
    there = [*hosts.proxies.prefix, *with_files({"/etc/hosts": table})]
    http = programs.tinyproxy(folder, "0.0.0.0", "::", exit_=PEERS["http"])
    behind = programs.tinyproxy(folder, PROXIES.at(1, "ipv4"), exit_=PEERS["https"])
    https = programs.haproxy(folder, behind, "::", "proxy.lab.test")
    socks5 = programs.microsocks(folder, "::", exit_=PEERS["socks5"])
    origin = programs.nginx(folder, "0.0.0.0", "::")
    origin.behind(hosts.origin.prefix)
    origin.host = ORIGIN.at(1, "ipv6")
    steady = programs.microsocks(folder, "::", exit_=PEERS["socks5"])
    for program in (http, behind, https, socks5, steady):
        program.behind(there)
        # Where mitmproxy dials it too: whether it listens is asked from the host that is watched.
        program.host = PROXIES.at(1, "ipv6" if program is https else "ipv4")
    echo = TcpEcho(host="0.0.0.0")
    async with AsyncExitStack() as stack:
        with hosts.origin.entered():  # nothing else runs yet
            await stack.enter_async_context(echo)
        for program in (origin, http, behind, https, socks5, steady):
            await stack.enter_async_context(program)
        ports = {
            "http": http.port,
            "https": https.port,
            "socks5": socks5.port,
            STEADY: steady.port,
        }
        known = {"proxy.lab.test": [PROXIES.at(1, "ipv4"), PROXIES.at(1, "ipv6")]}
        known[FIXED["direct"]] = [v4, ORIGIN.at(1, "ipv6")]
        hosts_file = folder / "mitm-hosts"
        hosts_file.write_text(
            "".join(f"{ip} {name}\n" for name, ips in known.items() for ip in ips)
        )
        mitm = Node(
            folder / "node",
            "-s",
            str(LEFT),
            egress_policy=write_policy(folder / "policy.yaml", **_policy(ports)),
            egress_hosts_file=hosts_file,
            egress_default="refuse",
            flow_detail=0,
            ssl_insecure=True,  # the origin's certificate is not for all these names
        )
        await stack.enter_async_context(mitm)
        rules = [
            (await mitm.change("POST", "/rules", hosts=[host], use=use))["id"]
            for host, use in zip(SWAPPED, _exits(0), strict=True)
        ]
        yield Soak(hosts, mitm, origin, echo, (http, https, socks5), ports, rules)
