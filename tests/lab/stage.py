"""What a story of the lab has to act with: peers, addresses of its own, clients, and the say which
places may be dialled and what DNS may be asked, as a whole and in each phase between two edits.
Whatever else is dialled or asked is a leak.
"""

import asyncio
import contextlib
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


@dataclass
class Stage:
    """What a story has: the peers, a folder of its own, and addresses of its own by ``number``."""

    peers: Peers
    counters: PacketCounters
    folder: Path
    number: int
    allowed: Counter[Place] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    leaked: Counter[Place] = field(default_factory=Counter)
    """What a phase did not allow, though the story did at another time."""
    questions: set[Question] = field(default_factory=set)
    """What the peers' nameserver has to be asked, and nothing else."""
    unexpected: set[Question] = field(default_factory=set)
    """Questions that a phase did not allow."""
    nameservers: set[Place] = field(default_factory=set)
    """Besides the peers' own; who asks there may do so over UDP and TCP."""
    of_system: set[Question] = field(default_factory=set)
    """What the nameserver of mitmproxy's system may be asked."""

    @property
    def name(self) -> str:
        return f"story{self.number}.lab.test"

    @property
    def url(self) -> str:
        """What clients ask for; only proxies, and the system of mitmproxy's host, know the name."""
        return f"http://{ORIGIN_NAME}:{self.peers.origin.port}/"

    @property
    def tls_url(self) -> str:
        return f"https://{ORIGIN_NAME}:{self.peers.origin.tls_port}/"

    def address(self, family: Family, shift: int = 0) -> str:
        return PROXIES.at(self.number + shift, family)

    def proxy(
        self, name: str = "exit", kind: str = "http", family: Family = "ipv6", **more: Any
    ) -> dict[str, Any]:
        """An entry for a proxy that nobody here wrote, by a name that has both families."""
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
        """To ask for this proxy by its family, and to dial it so often."""
        place, question = self.way(entry)
        self.allowed[place] += times
        self.questions.add(question)

    def way(self, entry: dict[str, Any]) -> tuple[Place, Question]:
        """Where a proxy is dialled, and what is asked before."""
        family: Family = entry["family"]
        return (self.address(family), entry["port"]), (entry["host"], RECORD[family])

    @contextlib.contextmanager
    def phase(self, *entries: dict[str, Any]) -> Iterator[None]:
        """Within this block each of these proxies is dialled, and nothing else, nor is anything
        else asked. It begins when an edit is in force, and what the edit cuts is cut."""
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
        """Within this block no more is dialled than this."""
        before = self.counters.read()
        try:
            yield
        finally:
            self.leaked += self.counters.read().since(before).syn - at_most
            self.allowed += at_most

    @contextlib.contextmanager
    def dialling_itself(self, at_most: Counter[Place]) -> Iterator[None]:
        """Within this block the host of mitmproxy dials no more of itself than this."""
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
        """``ok`` for an answer that came by a proxy, or why not."""
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
        """Three clients that ask without a pause, for plain and TLS; counts what they get. With
        ``exits`` a client for each, who names it in a header and before what is counted."""
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
        """Wait until the load has ended so often, and so many times more, in ``key``."""
        goal = ended[key] + more
        await poll(lambda: ended[key] >= goal, PATIENCE)


Story = Callable[[Stage], Awaitable[None]]
ANY = 100_000
"""As many packets as there are requests: the load does not count them."""


def everything_by(*proxies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "proxies": list(proxies),
        "rules": [{"use": proxies[0]["name"]}],
        "default": "refuse",
        **more,
    }


def by_header(*names: str) -> list[dict[str, str]]:
    """Rules by which a request leaves by the egress that its header names."""
    return [{"filter": f'~hq "x-exit: {name}"', "use": name} for name in names]


async def reloaded(mitm: EgressMitmdump, times: int = 1) -> None:
    """Wait until so many edits of the policy file are in force, and have cut what they cut."""
    await mitm.wait_for_log(rf"(?s)(policy reloaded.*?){{{times}}}")
