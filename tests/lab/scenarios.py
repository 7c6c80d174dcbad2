"""The requests to each kind of egress under each family, and the packets that they may cause.
Data."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from tests.e2e.programs import PASSWORD, USERNAME
from tests.helpers.nameserver import Reply
from tests.lab.counters import Place
from tests.lab.hosts import AWAY, DEAD, FAMILIES, LOST, ORIGIN, PROXIES, RECORD, Family
from tests.lab.peers import FAULTS, KINDS, Kind, Peers

BOTH = ("http", "https")
OTHER: Mapping[Family, Family] = {"ipv4": "ipv6", "ipv6": "ipv4"}


@dataclass(frozen=True)
class Slot:
    """Addresses and a name that belong to one scenario."""

    kind: Kind
    family: Family
    number: int
    ports: Mapping[str, int]
    """Ports of the dialled server, by the scheme of the request."""

    @property
    def name(self) -> str:
        return f"n{self.number}.lab.test"

    @property
    def own(self) -> str:
        return self._at(self.family)

    @property
    def other(self) -> str:
        """An address of the other family that would answer just as well."""
        return self._at(OTHER[self.family])

    @property
    def dead(self) -> str:
        return DEAD.at(self.number, self.family)

    @property
    def lost(self) -> str:
        return LOST.at(self.number, self.family)

    @property
    def away(self) -> str:
        return AWAY.at(self.number, self.family)

    @property
    def mapped(self) -> str:
        """The IPv4 address in the form that an AAAA record may hold."""
        return str(IPv6Address(f"::ffff:{self._at('ipv4')}"))

    def both(self, *own: str) -> dict[Family, Sequence[str]]:
        return {self.family: own, OTHER[self.family]: [self.other]}

    def _at(self, family: Family) -> str:
        return (ORIGIN if self.kind == "direct" else PROXIES).at(self.number, family)


@dataclass(frozen=True)
class Case:
    """The content of DNS, the outcome of a request (one of ``outcome``, split at ``|``), and the
    addresses that each request dials. ``turns`` are answers one after the other."""

    records: Mapping[Family, Reply | Sequence[str]] = field(default_factory=dict)
    outcome: str = "ok"
    dials: Sequence[str] = ()
    schemes: Sequence[str] = BOTH
    turns: Sequence[Sequence[str]] = ()
    literal: str = ""
    """Replaces the name; then nothing is asked."""


def _reply(slot: Slot, **how: object) -> Case:
    """An answer that is right, but comes in a wrong way."""
    return Case({slot.family: Reply([slot.own], **how), OTHER[slot.family]: [slot.other]})  # type: ignore[arg-type]


def _refused(slot: Slot, outcome: str, **how: object) -> Case:
    case = _reply(slot, **how)
    return Case(case.records, outcome, schemes=("http",))


def _served(slot: Slot, **how: object) -> Case:
    return Case(_reply(slot, **how).records, dials=[slot.own])


SITUATIONS: Mapping[str, Callable[[Slot], Case | None]] = {
    "dual-stack name": lambda s: Case(s.both(s.own), dials=[s.own]),
    "literal of the family": lambda s: Case(dials=[s.own], literal=s.own),
    "only the other family": lambda s: Case({OTHER[s.family]: [s.other]}, "no_record"),
    "no answer from the address": lambda s: Case(
        s.both(s.lost), "connect_timeout", [s.lost] * 6, ("http",)
    ),
    "no route to the address": lambda s: Case(s.both(s.away), "connect_refused"),
    "first address dead": lambda s: Case(
        s.both(s.dead, s.own), dials=[s.dead, s.own], schemes=("http",)
    ),
    "answer changes, TTL 0": lambda s: Case(
        dials=[s.own], schemes=("http",), turns=[[f"0 {s.own}"], [f"0 {s.dead}"]]
    ),
    "answer changes, TTL 1": lambda s: Case(
        dials=[s.own], schemes=("http",), turns=[[f"1 {s.own}"], [f"1 {s.dead}"]]
    ),
    "mapped address in AAAA": lambda s: (
        Case(s.both(s.mapped), "mapped_address") if s.family == "ipv6" else None
    ),
    "mapped beside a real one": lambda s: (
        Case(s.both(s.mapped, s.own), dials=[s.own]) if s.family == "ipv6" else None
    ),
    "chain of CNAMEs": lambda s: Case(
        s.both(f"30 CNAME edge.{s.name}", f"30 CNAME far.{s.name}", f"300 {s.own}"),
        dials=[s.own],
    ),
    "NXDOMAIN": lambda s: _refused(s, "dns_failure", rcode="NXDOMAIN"),
    "SERVFAIL": lambda s: _refused(s, "dns_failure", rcode="SERVFAIL"),
    "REFUSED": lambda s: _refused(s, "dns_failure", rcode="REFUSED"),
    "truncated, then TCP": lambda s: _served(s, truncated_over_udp=True),
    "silence": lambda s: _refused(s, "dns_timeout", silent=True),
    "garbage": lambda s: _refused(s, "dns_timeout|dns_failure", packets=lambda _: [b"\xff" * 9]),
    "wrong id": lambda s: _refused(
        s, "dns_timeout|dns_failure", packets=lambda m: [bytes((m[0] ^ 1,)) + m[1:]]
    ),
}


@dataclass(frozen=True)
class Scenario:
    """A concrete case: for which proxy, with which packets."""

    title: str
    slot: Slot
    case: Case
    credentials: bool = True

    @property
    def client(self) -> str:
        """The client's address, by which rules recognise the scenario."""
        return f"127.1.{self.slot.number // 250}.{self.slot.number % 250 + 1}"

    @property
    def allowed(self) -> Counter[Place]:
        """The most SYN packets for each place."""
        ports = [self.slot.ports[scheme] for scheme in self.case.schemes]
        return Counter((address, port) for port in ports for address in self.case.dials)

    @property
    def questions(self) -> set[tuple[str, str]]:
        """The only DNS questions that are allowed."""
        return set() if self.case.literal else {(self.slot.name, RECORD[self.slot.family])}

    @property
    def host(self) -> str:
        return self.case.literal or self.slot.name

    @property
    def zone(self) -> dict[tuple[str, str], Reply | Sequence[str]]:
        return {(self.slot.name, RECORD[f]): said for f, said in self.case.records.items()}

    @property
    def turns(self) -> dict[tuple[str, str], Sequence[Reply]]:
        if not self.case.turns:
            return {}
        replies = [Reply(records) for records in self.case.turns]
        return {(self.slot.name, RECORD[self.slot.family]): replies}

    @property
    def rule(self) -> dict[str, object]:
        if self.slot.kind == "direct":
            return {"clients": [self.client], "use": "direct", "family": self.slot.family}
        return {"clients": [self.client], "use": self.slot.name}

    @property
    def proxy(self) -> dict[str, object] | None:
        if self.slot.kind == "direct":
            return None
        entry: dict[str, object] = {
            "name": self.slot.name,
            "type": self.slot.kind,
            "host": self.host,
        }
        entry |= {"port": next(iter(self.slot.ports.values())), "family": self.slot.family}
        if self.slot.kind == "socks5" and self.credentials:
            entry |= {"username": USERNAME, "password": PASSWORD}
        return entry


def scenarios(peers: Peers) -> list[Scenario]:
    """All scenarios, each with its own number."""
    return [*_situations(peers), *_faults(peers)]


def _situations(peers: Peers) -> Iterator[Scenario]:
    numbers = itertools.count(1)
    for title, situation in SITUATIONS.items():
        for kind, family in itertools.product(KINDS, FAMILIES):
            ports = dict.fromkeys(BOTH, peers.ports[kind])
            if kind == "direct":
                ports["https"] = peers.origin.tls_port
            slot = Slot(kind, family, next(numbers), ports)
            if case := situation(slot):
                yield Scenario(title, slot, case)


def _faults(peers: Peers) -> Iterator[Scenario]:
    numbers = itertools.count(1001)
    for (kind, family, title), proxy in peers.faulty.items():
        slot = Slot(kind, family, next(numbers), dict.fromkeys(BOTH, proxy.port))
        (outcome,) = (fault.outcome for fault in FAULTS[kind] if fault.title == title)
        case = Case(slot.both(slot.own), outcome, [slot.own], ("https",))
        yield Scenario(f"proxy {title}", slot, case, credentials=False)
