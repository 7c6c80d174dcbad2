"""When a circuit opens, for how long, and what closes it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.policy.fault import Cause
from egress_policy.policy.health.circuit import (
    CREDENTIALS_REST,
    FIRST_REST,
    JITTER,
    LONGEST_REST,
    TRIAL_LIMIT,
    Circuit,
    Strike,
)
from egress_policy.policy.hop import HopFailure, broken, unanswered

REFUSED = unanswered("192.0.2.1", 80, 5.0)
WRONG_PASSWORD = broken("no", Cause.CREDENTIALS)


def strike(began: float, failure: HopFailure = REFUSED, hop: float | None = None) -> Strike:
    return Strike(began, began, failure, hop)


def circuit(*strikes: float, failure: HopFailure = REFUSED, hop: float | None = None) -> Circuit:
    subject = Circuit(random.Random(1), 0.0)
    for at in strikes:
        subject.struck(strike(at, failure, hop), at)
    return subject


def half_open(**fields: float) -> tuple[Circuit, float]:
    """A circuit that waits for a trial, and the time."""
    subject = circuit(1, 2, 3, **fields)  # type: ignore[arg-type]
    assert subject.retry_at is not None
    now = subject.retry_at
    subject.advance(now)
    return subject, now


def state(subject: Circuit) -> tuple[str, float | None]:
    """The state, and when the trial began."""
    return subject.state, subject.trial


# --- opening


@pytest.mark.parametrize(
    ("strikes", "state"),
    [
        ((1, 2), "closed"),
        ((1, 2, 3), "open"),
        ((1, 31, 61), "open"),
        ((1, 31, 62), "closed"),  # not within a minute
        ((1, 40, 61.5, 99), "open"),
    ],
)
def test_three_strikes_in_a_row_within_a_minute_open_it(
    strikes: tuple[float, ...], state: str
) -> None:
    subject = circuit(*strikes)
    assert subject.state == state
    assert subject.why == ("3 x connect_timeout" if state == "open" else "")


def test_a_success_begins_the_row_anew() -> None:
    subject = circuit(1, 2)
    subject.succeeded(2.5, 2.6)
    subject.struck(strike(3), 3)
    subject.struck(strike(4), 4)
    assert state(subject)[0] == "closed"
    subject.struck(strike(5), 5)
    assert state(subject)[0] == "open"


def test_a_success_says_nothing_about_attempts_that_began_later() -> None:
    subject = circuit(1, 2)
    subject.succeeded(0.5, 2.5)  # it was slow, and older than both
    subject.struck(strike(3), 3)
    assert subject.state == "open"


def test_what_began_before_a_success_is_no_strike() -> None:
    subject = circuit()
    subject.succeeded(5, 5.1)
    for began in (1, 2, 3, 4, 4.9):
        subject.struck(strike(began), 6)
    assert subject.state == "closed"


@pytest.mark.parametrize(("of", "state"), [(2, "open"), (3, "closed")])
def test_half_of_the_attempts_open_it_and_a_third_does_not(of: int, state: str) -> None:
    subject = Circuit(random.Random(1), 0.0)
    for number in range(1, 19):
        if number % of == 0:
            subject.struck(strike(number), number)
        else:
            subject.succeeded(number, number)
        if subject.state == "open":
            break
    assert subject.state == state
    if state == "open":
        assert subject.why == "5 of 10 attempts failed within 60 s"


def test_attempts_of_long_ago_do_not_count() -> None:
    subject = Circuit(random.Random(1), 0.0)
    for number in range(100):  # two strikes in a row, then successes
        at = number * 20.0
        subject.succeeded(at, at) if number % 4 > 1 else subject.struck(strike(at), at)
    assert subject.state == "closed"


# --- resting


@given(st.integers(0, 2**32))
def test_it_rests_for_five_seconds_at_first(seed: int) -> None:
    subject = Circuit(random.Random(seed), 0.0)
    for at in (1, 2, 3):
        subject.struck(strike(at), at)
    assert subject.retry_at is not None
    assert abs(subject.retry_at - 3 - FIRST_REST) <= JITTER * FIRST_REST


def test_wrong_credentials_rest_for_five_minutes() -> None:
    for seed in range(50):
        subject = Circuit(random.Random(seed), 0.0)
        for at in (1, 2, 3):
            subject.struck(strike(at, WRONG_PASSWORD), at)
        assert subject.retry_at is not None
        assert subject.retry_at >= 3 + CREDENTIALS_REST


@given(st.floats(1, 50_000), st.integers(0, 2**32))
def test_a_proxy_that_recovers_is_tried_within_a_third_of_its_outage(
    outage: float, seed: int
) -> None:
    subject = Circuit(random.Random(seed), 0.0)
    for _ in range(3):
        subject.struck(strike(0), 0)
    now, rests = 0.0, []
    while now < outage:
        assert subject.retry_at is not None
        rests.append(subject.retry_at - now)
        now = subject.retry_at
        subject.advance(now)
        assert subject.state == "half-open"
        subject.take(now)
        subject.struck(strike(now), now)
    began = now - rests[-1]
    longest = LONGEST_REST * (1 + JITTER)
    assert now - outage <= now - began <= min(max(10.0, 0.3 * outage), longest)
    assert max(rests) <= longest


def test_a_proxy_that_fails_right_after_it_closed_rests_longer() -> None:
    subject, now = half_open()
    for _ in range(2):
        subject.succeeded(now, now)
    assert subject.state == "closed"
    for _ in range(3):
        subject.struck(strike(now + 1), now + 1)
    assert subject.retry_at is not None
    assert subject.retry_at - now - 1 > FIRST_REST * (1 + JITTER)


# --- trials


def test_there_is_one_trial_and_a_failure_opens_it_again() -> None:
    subject, now = half_open()
    subject.take(now)
    assert subject.trial == now
    subject.take(now + 1)
    assert subject.trial == now
    subject.struck(strike(now), now + 2)
    assert (subject.state, subject.why) == ("open", "a trial failed: connect_timeout")


def test_two_successes_close_it() -> None:
    subject, now = half_open()
    subject.take(now)
    subject.succeeded(now, now + 1)
    assert (subject.state, subject.trial) == ("half-open", None)
    subject.take(now + 1)
    subject.succeeded(now + 1, now + 2)
    assert (subject.state, subject.why) == ("closed", "")


def test_attempts_from_before_decide_nothing() -> None:
    subject, now = half_open()
    subject.take(now)
    for _ in range(3):
        subject.struck(strike(2), now + 1)
        subject.succeeded(2, now + 1)
    assert (subject.state, subject.trial) == ("half-open", now)


def test_a_trial_whose_end_nobody_reports_is_given_back() -> None:
    subject, now = half_open()
    subject.take(now)
    assert subject.wakes_at == now + TRIAL_LIMIT
    subject.advance(now + TRIAL_LIMIT - 0.1)
    assert state(subject) == ("half-open", now)
    subject.advance(now + TRIAL_LIMIT)
    assert state(subject) == ("half-open", None)
    assert subject.idle_since == now + TRIAL_LIMIT


def test_a_trial_that_says_nothing_is_given_back() -> None:
    subject, now = half_open()
    subject.take(now)
    subject.ended(now - 1, now + 1)
    assert state(subject) == ("half-open", now)
    subject.ended(now, now + 1)
    assert state(subject) == ("half-open", None)


def test_a_trial_without_an_attempt_leaves_the_circuit_as_it_was() -> None:
    subject, now = half_open()
    idle = subject.idle_since
    assert subject.take(now)
    assert not subject.take(now + 1)
    assert not subject.give_back(now + 1)  # another one
    assert subject.give_back(now)
    assert not subject.give_back(now)
    assert (state(subject), subject.idle_since) == (("half-open", None), idle)


@pytest.mark.parametrize(("hop", "greetable"), [(None, True), (0.1, False)])
def test_a_greeting_tells_enough_where_the_proxy_failed_before_it(
    hop: float | None, greetable: bool
) -> None:
    assert circuit(1, 2, 3, hop=hop).greetable is greetable
    mixed = circuit(1, 2)
    mixed.struck(strike(3, hop=hop), 3)
    assert mixed.greetable is greetable


# --- pauses


@pytest.mark.parametrize(
    ("asked", "pause"), [(None, 60), (0, 1), (0.2, 1), (30, 30), (3600, 3600), (90_000, 3600)]
)
def test_a_pause_is_kept_and_is_no_fault(asked: float | None, pause: float) -> None:
    subject = circuit(1, 2)
    subject.paused(3, 3, asked)
    assert (subject.state, subject.limited, subject.retry_at) == ("open", True, 3 + pause)
    subject.advance(3 + pause)
    assert (subject.state, subject.limited, subject.why) == ("closed", False, "")


def test_a_pause_puts_a_trial_off() -> None:
    subject, now = half_open()
    subject.take(now)
    subject.paused(now, now + 1, 20)
    assert (subject.state, subject.limited, subject.trial) == ("open", False, None)
    subject.advance(now + 21)
    assert subject.state == "half-open"


def test_a_pause_makes_no_rest_shorter_and_no_rest_a_pause() -> None:
    subject = circuit(1, 2, 3, failure=WRONG_PASSWORD)
    before = subject.retry_at
    subject.paused(3, 4, 10)
    assert subject.retry_at == before
    subject = circuit(1, 2)
    subject.paused(3, 3, 100)
    for at in (4, 5, 6):
        subject.struck(strike(at), at)
    assert (subject.limited, subject.retry_at) == (False, 103)


# --- a person


def test_a_reset_closes_it_and_forgets_what_began_before() -> None:
    subject = circuit(1, 2, 3)
    subject.reset(10)
    assert (subject.state, subject.since, subject.retry_at) == ("closed", 10, None)
    for began in (3, 4, 5):
        subject.struck(strike(began), 11)
    assert subject.state == "closed"
    for began in (11, 12, 13):
        subject.struck(strike(began), began)
    assert subject.retry_at is not None
    assert subject.retry_at - 13 <= FIRST_REST * (1 + JITTER)
