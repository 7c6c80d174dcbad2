"""Rules that can never decide, because rules before them match all that they match. Pure.

A rule matches a set of *cells*: a host pattern, a client network, a port and a filter each. It is
out of reach if each of its cells lies within a cell of an earlier rule that has no filter, or the
same one. Nothing is assumed about what filters match, so a rule may be out of reach without being
found; a rule that is found is.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from ..model.network import Network
from ..model.rule import Rule

_MOST: Final = 10_000
"""A rule with more cells is not used to find others, and only found behind one for everything."""

Client = tuple[int, int, int]
"""The version of a network, its prefix length, and its first bits of that length."""
Cell = tuple[str, Client | None, int | None, str]
"""Host pattern, client, port and filter. ``None`` stands for any client, or any port."""
_EVERYTHING: Final[Cell] = ("*", None, None, "")


def unreachable(rules: Sequence[Rule]) -> dict[int, tuple[int, ...]]:
    """The numbers, from 0, of the rules that never decide, each with the numbers of earlier rules
    that together match all that it matches. ``len(rules)`` stands for the default."""
    table, found = _Table(), {}
    for number, rule in enumerate(rules):
        cells = _cells(rule)
        if before := table.within(cells or [("*", None, None, rule.filter)]):
            found[number] = before
        else:
            table.add(cells, number)
    if before := table.within([_EVERYTHING]):
        found[len(rules)] = before
    return found


class _Table:
    """The cells of rules, each with the first rule that has it."""

    def __init__(self) -> None:
        self._first: dict[Cell, int] = {}
        self._lengths: dict[int, list[int]] = {4: [], 6: []}
        """The prefix lengths of clients, by the version."""

    def add(self, cells: Sequence[Cell], number: int) -> None:
        for cell in cells:
            self._first.setdefault(cell, number)
            if client := cell[1]:
                version, length, _ = client
                if length not in self._lengths[version]:
                    self._lengths[version].append(length)

    def within(self, cells: Sequence[Cell]) -> tuple[int, ...]:
        """The rules whose cells contain all of these; empty if one lies in none of them."""
        found = set()
        for cell in cells:
            first = min(self._containing(cell), default=None)
            if first is None:
                return ()
            found.add(first)
        return tuple(sorted(found))

    def _containing(self, cell: Cell) -> Iterator[int]:
        host, client, port, filter_ = cell
        clients = self._clients_around(client) if client else (None,)
        for wider in product(_hosts_around(host), clients, {port, None}, {filter_, ""}):
            number = self._first.get(wider)
            if number is not None:
                yield number

    def _clients_around(self, client: Client) -> Iterator[Client | None]:
        yield None
        version, length, bits = client
        for shorter in self._lengths[version]:
            if shorter <= length:
                yield version, shorter, bits >> (length - shorter)


def _cells(rule: Rule) -> Sequence[Cell]:
    """All cells of a rule, or none if there are too many."""
    hosts = ("*",) if not rule.hosts or "*" in rule.hosts else rule.hosts
    clients = tuple(map(_client, rule.clients)) or (None,)
    ports = rule.ports or (None,)
    if len(hosts) * len(clients) * len(ports) > _MOST:
        return ()
    return [*product(hosts, clients, ports, (rule.filter,))]


def _client(network: Network) -> Client:
    length = network.prefixlen
    return network.version, length, int(network.network_address) >> network.max_prefixlen - length


def _hosts_around(pattern: str) -> Iterator[str]:
    """The patterns that match all that a pattern matches."""
    yield "*"
    if pattern == "*":
        return
    yield pattern
    if ":" in pattern:  # an IPv6 literal has no labels
        return
    name = pattern.removeprefix("*.")
    while "." in name:
        name = name.partition(".")[2]
        yield f"*.{name}"
