"""What is kept of one proxy, and that each state of its circuit is told once."""

import random

import pytest

from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import JUDGEMENTS, Cause
from egress_policy.policy.health.circuit import Circuit, Strike
from egress_policy.policy.health.track_record import CircuitState, TrackRecord
from egress_policy.policy.hop import Outcome, broken

EGRESS = Egress(Proxy(name="home-1", host="192.0.2.1"))


def record() -> TrackRecord:
    return TrackRecord(EGRESS, Circuit(random.Random(1), 0.0))


def attempt(cause: Cause | None, hop: float | None = None) -> Outcome:
    why = broken(cause.name.lower(), cause) if cause else None
    return Outcome("attempt", "192.0.2.1", why, 1.0, 3.0, hop)


def opened() -> TrackRecord:
    one = record()
    for at in (1.0, 2.0, 3.0):
        one.circuit.struck(Strike(at, at, broken("it broke off")), at)
    return one


@pytest.mark.parametrize("cause", Cause)
def test_failures_are_counted_that_may_be_its_own(cause: Cause) -> None:
    one, judgement = record(), JUDGEMENTS[cause]
    one.count(attempt(None, hop=0.2), 3.0)
    one.count(attempt(cause), 3.0)
    state, counted = one.state(3.0, watched=True), judgement.fault in ("proxy", "undecided")
    assert (state.successes, state.failures) == (1, int(counted))
    assert (state.last_failure is not None) is counted
    assert (state.ewma != 0.2) is (counted and judgement.counts)


def test_a_proxy_that_is_not_watched_shows_no_circuit() -> None:
    one = opened()
    one.count(attempt(None, hop=0.2), 3.0)
    assert one.state(3.0, watched=True).state == "open"
    assert one.state(3.0, watched=False) == CircuitState(successes=1, ewma=0.2)


def test_a_state_is_told_once() -> None:
    assert record().news() is None
    one = opened()
    news = one.news()
    assert news
    assert (news.egress, news.kind, news.at, news.again) == (EGRESS, "opened", 3.0, False)
    assert news.why == "3 x handshake_failed"
    assert one.news() is None


def test_a_pause_is_told_as_such() -> None:
    one = record()
    one.circuit.paused(1.0, 1.0, 30.0)
    news = one.news()
    assert news
    assert (news.kind, news.why) == ("limited", "it asked for a pause of 30 s")


def test_a_trial_that_failed_is_told_as_more_of_the_same() -> None:
    one = opened()
    one.news()
    at = one.circuit.retry_at or 0.0
    one.circuit.advance(at)
    half_open = one.news()
    one.circuit.take(at)
    one.circuit.struck(Strike(at, at, broken("it broke off")), at)
    again = one.news()
    assert half_open
    assert again
    assert [(half_open.kind, half_open.again), (again.kind, again.again)] == [
        ("half-open", False),
        ("opened", True),
    ]
