"""How long one decision takes, and whether the number of rules matters."""

import gc
import random
import statistics
import time
from collections.abc import Iterator

from egress_policy.model.decision import Target
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy, Rule
from egress_policy.policy.engine import decide
from egress_policy.policy.snapshot import Snapshot, build_snapshot
from egress_policy.proxy.filters import compile_filter
from tests.bench.pairs import Aim, Row, row

SIZES = (10, 1_000, 10_000)
_TARGETS = 512
_AIMS = (Aim("ours", "<=", 20.0), Aim("ratio", "<=", 1.5))


def measure(pairs: int) -> Iterator[Row]:
    """Rows of microseconds: in place of ours many rules, of theirs the fewest."""
    for kind, rule in {"host": _host_rule, "client": _client_rule}.items():
        sides = {size: _side([rule(n) for n in range(size)]) for size in SIZES}
        few, *more = SIZES
        found: dict[int, list[tuple[float, float]]] = {size: [] for size in more}
        for number in range(pairs):
            for size in more if number % 2 else reversed(more):
                first, second = (size, few) if number % 2 else (few, size)
                times = {first: _median_us(*sides[first]), second: _median_us(*sides[second])}
                found[size].append((times[size], times[few]))
        for size in more:
            aims = _AIMS if size == SIZES[-1] else ()
            yield row(f"decide, {size:,} {kind} rules (theirs: {few})", "us", found[size], *aims)


def _side(rules: list[Rule]) -> tuple[Snapshot, list[Target]]:
    policy = Policy(proxies=(Proxy(name="egress", host="192.0.2.1"),), rules=tuple(rules))
    return build_snapshot(policy, compile_filter), _targets(rules)


def _median_us(snapshot: Snapshot, targets: list[Target]) -> float:
    """Each decision by itself, as a proxy makes them: never twice in a row for one target."""
    clock = time.perf_counter_ns
    times = []
    gc.disable()
    try:
        for target in targets * 4:
            started = clock()
            decide(snapshot, target)
            times.append(clock() - started)
    finally:
        gc.enable()
    return statistics.median(times) / 1000


def _targets(rules: list[Rule]) -> list[Target]:
    """Half of them fit a rule, spread over all of these; the others fit none."""
    chance = random.Random(1)
    targets = []
    for number in range(_TARGETS):
        rule = chance.choice(rules)
        host, client = f"www.other-{number}.example", f"198.51.{number % 100}.7"
        if number % 2:
            host = rule.hosts[0].replace("*", "www") if rule.hosts else host
            client = str(rule.clients[0].network_address + 1) if rule.clients else client
        targets.append(Target(host, 443, client))
    return targets


def _host_rule(number: int) -> Rule:
    """Exact names and sub-domains in turn."""
    prefix = "*." if number % 2 else "api."
    return Rule(hosts=(f"{prefix}site-{number}.example",), use="egress")


def _client_rule(number: int) -> Rule:
    network = f"10.{number >> 8}.{number & 255}.0/24"
    return Rule(clients=(network,), ports=(443, 80), use="egress")
