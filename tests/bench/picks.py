"""How long a pick from a pool takes, and whether the number of members matters.

With the condition of a running proxy: circuits, limits and exits are asked, and all are good but
for the members that are put away here.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from typing import Final

from egress_policy.dns.resolver import DnsResolver
from egress_policy.errors import Reason
from egress_policy.model.decision import Egress, Members, Refusal, Target
from egress_policy.model.pool import STRATEGIES, Member, Pool, Strategy
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy
from egress_policy.policy.selection import PoolPicker
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.proxy.filters import compile_filter
from egress_policy.router import EgressRouter
from tests.bench.pairs import Aim, Row, row

MANY, FEW = 10_000, 10
_TARGETS: Final = [Target("a.example", 443, f"192.0.2.{number}") for number in range(200)]
_PICK = Aim("ours", "<=", 3.0)
_BUILD = Aim("ours", "<=", 300.0)

type Pick = Callable[[Target], object]


def measure(pairs: int) -> Iterator[Row]:
    """Rows of microseconds for picks and of milliseconds for the first one, which gets the pool
    ready: in place of ours many members, of theirs few."""
    many, few = _members(MANY), _members(FEW)
    for part, what in {0: "", 2: ", half away", 1: ", all away"}.items():
        for strategy in STRATEGIES if part != 1 else STRATEGIES[:1]:
            away = [
                {one.name for one in members[::part]} if part else set() for members in (many, few)
            ]
            sides = [_ready(strategy, *side)[0] for side in zip((many, few), away, strict=True)]
            found = [_in_turn(number, sides) for number in range(pairs)]
            called = "refuse" if part == 1 else f"pick, {strategy}"
            yield row(f"{called}, {MANY:,} members{what} (theirs: {FEW})", "us", found, _PICK)
    for strategy in STRATEGIES:
        times = [
            (_ready(strategy, many, set())[1], _ready(strategy, few, set())[1])
            for _ in range(pairs)
        ]
        yield row(f"get ready, {strategy}, {MANY:,} members (theirs: {FEW})", "ms", times, _BUILD)


def _members(number: int) -> Members:
    egresses = [Egress(Proxy(name=f"home-{n}", host="192.0.2.1")) for n in range(number)]
    members = Members(egresses, (n % 7 + 1 for n in range(number)))
    members.by_key  # noqa: B018 (a snapshot has it by then)
    return members


def _ready(strategy: Strategy, members: Members, away: Collection[str]) -> tuple[Pick, float]:
    """How to pick, after all that is done once, and how many ms the first pick took."""
    standing = EgressRouter(build_snapshot(Policy(), compile_filter), DnsResolver()).standing
    refusal = Refusal(Reason.EXIT_UNVERIFIED, "for the measurement", retry_after=60.0)
    standing.exit_refusal = lambda egress: refusal if egress.name in away else None
    pairs = zip(members, members.weights, strict=True)
    listed = tuple(Member(name=one.name, weight=weight) for one, weight in pairs)
    pool = Pool(name="homes", members=listed, strategy=strategy)
    picker = PoolPicker(standing, random=random.Random(1))
    started = time.perf_counter()
    picker.pick(pool, members, _TARGETS[0])
    took = (time.perf_counter() - started) * 1000
    return lambda target: picker.pick(pool, members, target), took


def _in_turn(number: int, sides: list[Pick]) -> tuple[float, float]:
    """The median in us for both sides, the first one first in every second turn."""
    order = (0, 1) if number % 2 else (1, 0)
    times = {side: _median_us(sides[side]) for side in order}
    return times[0], times[1]


def _median_us(pick: Pick) -> float:
    """Each pick by itself; what is learnt in the first ones is known in those that count."""
    clock, times = time.perf_counter_ns, []
    for target in _TARGETS * 20:
        pick(target)
    gc.disable()
    try:
        for target in _TARGETS * 10:
            started = clock()
            pick(target)
            times.append(clock() - started)
    finally:
        gc.enable()
    return statistics.median(times) / 1000
