"""What a story of the lab works with: peers, its own addresses, clients, and limits on the places
that may be dialled and the questions that DNS may get, as a whole and in each phase between two
edits. Any other dial or question is a leak."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.curl import curl
from tests.e2e.mitmdump import EgressMitmdump, egress
from tests.e2e.node import ask_api
from tests.e2e.programs import PASSWORD, USERNAME
from tests.helpers.watch import poll
from tests.lab.counters import PacketCounters, Place
from tests.lab.hosts import NAMES_V4, PROXIES, RECORD, Family
from tests.lab.peers import EXIT, ORIGIN_NAME, Peers, Question
from tests.lab.run import DNS_TIMEOUT_MS, on_mitm_host

PATIENCE = 20
SABOTAGED = Path(__file__).with_name("sabotaged.py")
"""A script in place of the addon's, without a safeguard."""


@dataclass
class Stage:
    """What a story has: the peers, its own folder, and its own addresses by ``number``."""

    peers: Peers
    counters: PacketCounters
    folder: Path
    number: int
    allowed: Counter[Place] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    leaked: Counter[Place] = field(default_factory=Counter)
    """Packets that a phase did not allow, although the story did at another time."""
    questions: set[Question] = field(default_factory=set)
    """The questions that the peers' nameserver must get, and no others."""
    unexpected: set[Question] = field(default_factory=set)
    """Questions that a phase did not allow."""
    nameservers: set[Place] = field(default_factory=set)
    """Further nameservers. They may be asked over UDP and TCP."""
    of_system: set[Question] = field(default_factory=set)
    """The questions that the nameserver of mitmproxy's system may get."""
    without: str = ""
    """The safeguard that is sabotaged."""

    @property
    def name(self) -> str:
        return f"story{self.number}.lab.test"

    @property
    def url(self) -> str:
        """The URL for clients; only proxies, and the system of mitmproxy's host, know the name."""
        return f"http://{ORIGIN_NAME}:{self.peers.origin.port}/"

    @property
    def tls_url(self) -> str:
        return f"https://{ORIGIN_NAME}:{self.peers.origin.tls_port}/"

    def address(self, family: Family, shift: int = 0) -> str:
        return PROXIES.at(self.number + shift, family)

    def proxy(
        self, name: str = "exit", kind: str = "http", family: Family = "ipv6", **more: Any
    ) -> dict[str, Any]:
        """An entry for a third-party proxy, by a name that has both families."""
        host = f"{name}.{self.name}"
        for of, record in (("ipv4", "A"), ("ipv6", "AAAA")):
            zone: Any = self.peers.names.zone
            zone.setdefault((host, record), [self.address(of)])  # type: ignore[arg-type]
        entry: dict[str, Any] = {"name": name, "type": kind, "host": host, "family": family}
        entry["port"] = self.peers.ports[kind]  # type: ignore[index]
        if kind == "socks5":
            entry |= {"username": USERNAME, "password": PASSWORD}
        return {**entry, **more}

    def allow(self, entry: dict[str, Any], times: int) -> None:
        """Allow the question for this proxy's family, and so many dials."""
        place, question = self.way(entry)
        self.allowed[place] += times
        self.questions.add(question)

    def way(self, entry: dict[str, Any]) -> tuple[Place, Question]:
        """The place where a proxy is dialled, and the questions before."""
        family: Family = entry["family"]
        return (self.address(family), entry["port"]), (entry["host"], RECORD[family])

    @contextlib.contextmanager
    def phase(self, *entries: dict[str, Any]) -> Iterator[None]:
        """Within this block each of these proxies is dialled, and nothing else is dialled or asked.
        The block begins when an edit is in force and its cuts are made."""
        ways, names = dict(map(self.way, entries)), self.peers.names
        before, asked = self.counters.read(), names.queries.copy()
        yield
        dialled = self.counters.read().since(before).syn
        allowed = {*ways, names.place}
        self.leaked += Counter({p: n for p, n in dialled.items() if p not in allowed})
        self.unexpected |= set(names.queries - asked) - set(ways.values())
        self.expect("never dialled in a phase", set(ways) - set(dialled), set())

    @contextlib.contextmanager
    def dialling(self, at_most: Counter[Place]) -> Iterator[None]:
        """Within this block at most these packets are sent."""
        before = self.counters.read()
        try:
            yield
        finally:
            self.leaked += self.counters.read().since(before).syn - at_most
            self.allowed += at_most

    @contextlib.contextmanager
    def dialling_itself(self, at_most: Counter[Place]) -> Iterator[None]:
        """Within this block mitmproxy's host sends at most these packets to itself."""
        before = self.counters.read()
        try:
            yield
        finally:
            self.leaked += self.counters.read().since(before).within - at_most

    async def until_dialled(self, entry: dict[str, Any]) -> None:
        """Wait for one more packet to this proxy, in its family."""
        place, _ = self.way(entry)
        before = self.counters.read().syn[place]
        await poll(lambda: self.counters.read().syn[place] != before, PATIENCE)

    def mitmdump(self, *args: str, policy: dict[str, Any], **options: Any) -> EgressMitmdump:
        if self.without:
            options |= {"script": SABOTAGED, "env": {**os.environ, "LAB_WITHOUT": self.without}}
        return egress(
            self.folder,
            *args,
            policy=policy,
            prefix=on_mitm_host(self.peers, self.folder),
            **{
                "egress_dns": f"{NAMES_V4}:{self.peers.names.port}",
                "egress_dns_timeout_ms": DNS_TIMEOUT_MS,
                "ssl_insecure": True,
                **options,
            },
        )

    async def get(self, mitm: EgressMitmdump, url: str = "", *args: str) -> str:
        """``ok`` for an answer through a proxy, otherwise the fault."""
        answer = await curl(
            url or self.url, *mitm.proxy, "-k", *args, prefix=self.peers.hosts.mitm.prefix
        )
        if answer.status == 200:
            _, peer, _ = answer.reached
            return "ok" if peer == EXIT else f"came from {peer}"
        return answer.refused[2] if answer.refused[1] else f"status {answer.status}"

    async def api(self, mitm: EgressMitmdump, place: str) -> int:
        """The status of an answer by the management API, 0 if there is none."""
        with self.peers.hosts.mitm.entered():  # the load enters it by processes of its own
            try:
                return (await ask_api(mitm, "GET", "/status", place)).status_code
            except httpx.TransportError:
                return 0

    def expect(self, what: str, actual: object, expected: object) -> None:
        if actual != expected:
            self.wrong.append(f"{what}: {actual!r} instead of {expected!r}")

    @contextlib.asynccontextmanager
    async def load(self, mitm: EgressMitmdump, *exits: str) -> AsyncIterator[Counter[str]]:
        """Three clients that send plain and TLS requests without a pause, and count the results.
        With ``exits`` there is a client for each exit; it names the exit in a header and in its
        counts."""
        ended: Counter[str] = Counter()
        over = asyncio.Event()

        async def client(exit_: str) -> None:
            named = ("-H", f"x-exit: {exit_}") if exit_ else ()
            while not over.is_set():
                for url in (self.url, self.tls_url):
                    ended[f"{exit_} {await self.get(mitm, url, *named)}".strip()] += 1

        clients = [asyncio.create_task(client(exit_)) for exit_ in exits or [""] * 3]
        try:
            yield ended
        finally:
            over.set()
            await asyncio.gather(*clients, return_exceptions=True)

    async def until(self, ended: Counter[str], key: str, more: int = 10) -> None:
        """Wait until the load has counted ``key`` this often again."""
        goal = ended[key] + more
        await poll(lambda: ended[key] >= goal, PATIENCE)


Story = Callable[[Stage], Awaitable[None]]
ANY = 100_000
"""As many packets as there are requests, because the load does not count its requests."""


def everything_by(*proxies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "proxies": list(proxies),
        "rules": [{"use": proxies[0]["name"]}],
        "default": "refuse",
        **more,
    }


def by_header(*names: str) -> list[dict[str, str]]:
    """Rules by which a request leaves by the egress in its header."""
    return [{"filter": f'~hq "x-exit: {name}"', "use": name} for name in names]


async def reloaded(mitm: EgressMitmdump, times: int = 1) -> None:
    """Wait until so many edits of the policy file are in force and have made their cuts."""
    await mitm.wait_for_log(rf"(?s)(policy reloaded.*?){{{times}}}")
