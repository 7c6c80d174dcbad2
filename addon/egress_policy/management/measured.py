"""What can be measured at one moment, for metrics: counts since the start, and states now."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..model.rule import OTHER
from .attempts import MOST, Attempted, Attempts, Times
from .history import History
from .in_force import PolicyInForce
from .states import States
from .status import StatusView


@dataclass(frozen=True, slots=True)
class Measured:
    """``attempts``, ``failovers`` and ``hops`` are those of ``Attempts``, ``active`` counts
    connections by proxy, and ``members`` those of pools by pool and state. ``durations`` are those
    of flows by use, ``bytes`` those to and from each exit: proxies, ``direct`` and ``(other)``.

    No name of a proxy stands for itself after the first ``MOST``: see ``first``.
    """

    status: StatusView
    attempts: Mapping[Attempted, int]
    failovers: Mapping[str, int]
    hops: Mapping[str, Times]
    active: Mapping[str, int]
    members: Mapping[tuple[str, str], int]
    durations: Mapping[str, Times]
    bytes: tuple[tuple[str, int, int], ...]


def measure(
    status: StatusView,
    attempts: Attempts,
    history: History,
    in_force: PolicyInForce,
    states: States,
) -> Measured:
    """A copy, which can be rendered in any thread."""
    proxies, pools = in_force.snapshot.proxies, in_force.snapshot.pools
    words = dict(zip(proxies, states.words(proxies), strict=True))
    members: Counter[tuple[str, str]] = Counter()
    for number, pool in enumerate(pools.values()):
        name = pool.name if number < MOST else OTHER
        for state, count in Counter(words.get(one, "unusable") for one in pool.names).items():
            members[name, state] += count
    return Measured(
        status=status,
        attempts=dict(attempts.counts),
        failovers=dict(attempts.failovers),
        hops=_copied(attempts.hops),
        active=first((name, states.active(proxy)) for name, proxy in proxies.items()),
        members=members,
        durations=_copied(history.durations),
        bytes=tuple(history.bytes()),
    )


def _copied(times: Mapping[str, Times]) -> Mapping[str, Times]:
    return {name: Times([*one.counts], one.total) for name, one in times.items()}


def first(counts: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """The counts of the first so many names; those of all others are one, called ``(other)``."""
    found: dict[str, int] = {}
    for number, (name, count) in enumerate(counts):
        key = name if number < MOST else OTHER
        found[key] = found.get(key, 0) + count
    return found
