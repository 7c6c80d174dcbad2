"""A stopwatch measures steps in turn, and all of them together."""

from egress_policy.client.timing import Stopwatch


def test_each_lap_begins_where_the_one_before_has_ended() -> None:
    now = 100.0
    watch = Stopwatch(lambda: now)
    now = 100.25
    assert watch.lap() == 250
    now = 100.75
    assert watch.lap() == 500
    now = 101.0
    assert watch.total() == 1000
    assert watch.lap() == 250
