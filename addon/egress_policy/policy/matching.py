"""Which rules a target can match, found without looking at the others.

Host patterns, then client networks, then ports: three levels of dictionaries, each with a branch
for the rules without that condition. A target visits the few branches it fits, however many rules
there are. Patterns match the canonical host on label boundaries.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache, lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from ..model.decision import Target
from ..model.network import Network
from ..model.rule import Rule
from ..sentence import Sentence

Numbers = tuple[int, ...]
_CLIENTS_REMEMBERED: Final = 4096
_FEW: Final = 32
"""A host with more rules gets its branch when the index is made, not when it is first asked for."""


@lru_cache(_CLIENTS_REMEMBERED)
def client_number(client: str) -> tuple[int, int] | None:
    """IP version and address as a number; an IPv4-mapped one is IPv4. ``None`` for other texts."""
    try:
        address = ip_address(client)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.version, int(address)


def failed_condition(rule: Rule, target: Target) -> str:
    """Why a target does not match, ``filter`` aside; empty if it does. For explanations only."""
    if rule.hosts and not any(_host_fits(pattern, target.host) for pattern in rule.hosts):
        return Sentence("host_differs", "host {host} is none of its hosts", host=target.host)
    client = client_number(target.client)
    if rule.clients and not any(_client_fits(network, client) for network in rule.clients):
        seen = target.client or "unknown"
        return Sentence("client_differs", "client {client} is none of its clients", client=seen)
    if rule.ports and target.port not in rule.ports:
        return Sentence("port_differs", "port {port} is none of its ports", port=target.port)
    return ""


class RuleIndex:
    """Finds the candidates for a target among ``rules``, which are numbered from 0.

    The branch of a host with few rules is made when the host is first asked for, so that an edit of
    one rule among thousands does not make all branches again.
    """

    __slots__ = ("_any", "_branch", "_depth", "_exact", "_suffixes")

    def __init__(self, rules: Sequence[Rule]) -> None:
        # Hosts that share their rules share one branch.
        @cache
        def ports(numbers: Numbers) -> _Ports:
            groups = _group(numbers, lambda number: rules[number].ports or (None,))
            return _Ports({port: _reachable(rules, group) for port, group in groups.items()})

        @cache
        def clients(numbers: Numbers) -> _Clients:
            groups = _group(numbers, lambda number: rules[number].clients or (None,))
            return _Clients({network: ports(group) for network, group in groups.items()})

        groups = _group(range(len(rules)), lambda number: _patterns(rules[number]))
        branches: _Branches = {
            pattern: group if len(group) <= _FEW else clients(group)
            for pattern, group in groups.items()
        }
        self._branch = clients
        everything = branches.pop("*", None)
        self._any = clients(everything) if isinstance(everything, tuple) else everything
        self._exact = {name: node for name, node in branches.items() if name[0] != "*"}
        self._suffixes = {name[1:]: node for name, node in branches.items() if name[0] == "*"}
        self._depth = max((suffix.count(".") for suffix in self._suffixes), default=0)

    def candidates(self, target: Target) -> Iterable[int]:
        """The numbers of the rules whose hosts, clients and ports fit, in order.

        A rule that can never decide, because one before it fits as well and has no filter, may be
        left out. A number may come twice.
        """
        found: list[Numbers] = []
        host = target.host
        if self._any:
            self._any.collect(target, found)
        if branch := self._find(self._exact, host):
            branch.collect(target, found)
        if self._depth and ":" not in host:  # the scope id of an IPv6 literal may have dots
            self._collect_suffixes(target, found)
        return found[0] if len(found) == 1 else heapq.merge(*found)

    def _collect_suffixes(self, target: Target, found: list[Numbers]) -> None:
        host = target.host
        dot = len(host)
        # From the right, so that a hostile name with thousands of labels costs no more.
        for _ in range(self._depth):
            dot = host.rfind(".", 0, dot)
            if dot <= 0:
                return
            if branch := self._find(self._suffixes, host[dot:]):
                branch.collect(target, found)

    def _find(self, branches: "_Branches", name: str) -> "_Clients | None":
        branch = branches.get(name)
        if isinstance(branch, tuple):
            branch = branches[name] = self._branch(branch)
        return branch


class _Clients:
    __slots__ = ("_any", "_tables")

    def __init__(self, branches: "dict[Network | None, _Ports]") -> None:
        self._any = branches.pop(None, None)
        tables: defaultdict[tuple[int, int], dict[int, _Ports]] = defaultdict(dict)
        for network, branch in branches.items():
            if network is not None:
                shift = network.max_prefixlen - network.prefixlen
                tables[network.version, shift][int(network.network_address) >> shift] = branch
        self._tables = [(version, shift, table) for (version, shift), table in tables.items()]

    def collect(self, target: Target, found: list[Numbers]) -> None:
        if self._any:
            self._any.collect(target.port, found)
        if self._tables and (client := client_number(target.client)):
            of, number = client
            for version, shift, table in self._tables:
                if version == of and (branch := table.get(number >> shift)):
                    branch.collect(target.port, found)


class _Ports:
    __slots__ = ("_any", "_by_port")

    def __init__(self, leaves: dict[int | None, Numbers]) -> None:
        self._any = leaves.pop(None, None)
        self._by_port = leaves

    def collect(self, port: int, found: list[Numbers]) -> None:
        if self._any:
            found.append(self._any)
        if leaf := self._by_port.get(port):
            found.append(leaf)


_Branches = dict[str, Numbers | _Clients]


def _group[K: Hashable](
    numbers: Iterable[int], keys: Callable[[int], Iterable[K]]
) -> dict[K, Numbers]:
    groups: defaultdict[K, list[int]] = defaultdict(list)
    for number in numbers:
        for key in dict.fromkeys(keys(number)):
            groups[key].append(number)
    return {key: tuple(group) for key, group in groups.items()}


def _patterns(rule: Rule) -> tuple[str, ...]:
    return ("*",) if not rule.hosts or "*" in rule.hosts else rule.hosts


def _reachable(rules: Sequence[Rule], numbers: Numbers) -> Numbers:
    for position, number in enumerate(numbers):
        if not rules[number].filter:
            return numbers[: position + 1]
    return numbers


def _host_fits(pattern: str, host: str) -> bool:
    if not pattern.startswith("*"):
        return host == pattern
    return pattern == "*" or (
        host.endswith(pattern[1:]) and ":" not in host and host != pattern[1:]
    )


def _client_fits(network: Network, client: tuple[int, int] | None) -> bool:
    if client is None or network.version != client[0]:
        return False
    shift = network.max_prefixlen - network.prefixlen
    return int(network.network_address) >> shift == client[1] >> shift
