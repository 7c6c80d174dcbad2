"""Counting attempts, within a bounded memory."""

import pytest

from egress_policy.errors import Reason
from egress_policy.management import attempts as counting
from egress_policy.management.attempts import BUCKETS, Attempted, Attempts
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import OTHER
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import HopFailure, Outcome


def by(proxy: str = "one", pool: str = "homes") -> Route:
    choice = Choice(Egress(Proxy(name=proxy, host="exit.test")), pool=pool)
    return Route(choice, Pin(("192.0.2.1",), None), ("a.test", 443))


def ended(cause: Cause | None = None, hop: float | None = None) -> Outcome:
    failure = HopFailure(Reason.HANDSHAKE_FAILED, "it failed", cause) if cause else None
    return Outcome("attempt", "192.0.2.1", failure, 0.0, 1.0, hop)


def test_attempts_are_counted_by_whose_fault_they_failed() -> None:
    counted = Attempts()
    for cause in (None, None, Cause.REFUSED, Cause.UNDECIDED, Cause.TARGET, Cause.OWN):
        counted.saw(by(), ended(cause))
    counted.saw(by(pool=""), ended())
    assert counted.counts == {
        Attempted("homes", "one", "ok", ""): 2,
        **{
            Attempted("homes", "one", "failed", fault): 1
            for fault in ("proxy", "undecided", "target", "own")
        },
        Attempted("", "one", "ok", ""): 1,
    }


def test_times_of_hops_fall_into_buckets() -> None:
    counted = Attempts()
    for seconds in (0.001, BUCKETS[0], 0.3, 11.0, None):
        counted.saw(by(), ended(hop=seconds))
    times = counted.hops["homes"]
    assert times.total == pytest.approx(11.306)
    found = dict(times.cumulative())
    assert (found["0.005"], found["0.25"], found["0.5"], found["10.0"], found["+Inf"]) == (
        (2, 2, 3, 3, 4)
    )


def test_names_beyond_the_first_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST", 3)
    counted = Attempts()
    for number in range(10):
        counted.saw(by(f"p{number}", f"pool-{number}"), ended(hop=0.1))
        counted.failed_over(f"pool-{number}")
    counted.saw(by("p1", "pool-1"), ended())
    assert counted.counts[Attempted("pool-1", "p1", "ok", "")] == 2
    assert counted.counts[Attempted(OTHER, OTHER, "ok", "")] == 7
    assert set(counted.hops) == set(counted.failovers) == {"pool-0", "pool-1", "pool-2", OTHER}


def test_pairs_beyond_the_first_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_SERIES", 5)
    counted = Attempts()
    for number in range(100):
        counted.saw(by(f"p{number % 10}", f"pool-{number // 10}"), ended())
    assert len(counted.counts) == 6
    assert counted.counts[Attempted(OTHER, OTHER, "ok", "")] == 95
