"""What a proxy costs: peaks count at once, failures never make it cheaper."""

from hypothesis import given
from hypothesis import strategies as st

from egress_policy.policy.health.hop_time import LEAST_PENALTY, STALE, TAU, HopTime

seconds = st.floats(0.001, 15)


def test_nothing_is_known_at_first() -> None:
    assert HopTime().seconds(0.0) is None


def test_a_peak_counts_at_once_and_fades() -> None:
    subject = HopTime()
    subject.measured(0.1, 0)
    subject.measured(2.0, 1)
    assert subject.seconds(1) == 2.0
    subject.measured(0.1, 1 + TAU)
    assert 0.79 < (subject.seconds(1 + TAU) or 0) < 0.81


@given(st.lists(st.tuples(st.booleans(), seconds, st.floats(0, 50)), max_size=20), seconds)
def test_a_failure_never_makes_it_cheaper(
    events: list[tuple[bool, float, float]], elapsed: float
) -> None:
    subject, now = HopTime(), 0.0
    for worked, length, later in events:
        now += later
        subject.measured(length, now) if worked else subject.failed(length, now)
    before = subject.seconds(now) or 0.0
    subject.failed(elapsed, now)
    assert subject.seconds(now) == max(before, elapsed, LEAST_PENALTY)


def test_what_was_not_measured_for_long_is_unknown() -> None:
    subject = HopTime()
    subject.failed(5.0, 0)
    assert subject.seconds(STALE) == 5.0
    assert subject.seconds(STALE + 1) is None
    subject.measured(0.2, STALE + 1)
    assert subject.seconds(STALE + 1) == 0.2
