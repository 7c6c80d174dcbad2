from datetime import UTC, datetime, timedelta, timezone

import pytest

from egress_policy.model.words import count, iso_time, milliseconds, span


def test_time_is_in_utc_with_milliseconds() -> None:
    east = timezone(timedelta(hours=2))
    moment = datetime(2026, 1, 31, 1, 2, 3, 4_567, tzinfo=east)
    assert iso_time(moment) == "2026-01-30T23:02:03.004Z"
    assert iso_time(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"


def test_one_is_counted_in_the_singular() -> None:
    assert [count(number, "proxy", "proxies") for number in (0, 1, 2)] == [
        "0 proxies",
        "1 proxy",
        "2 proxies",
    ]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.0, "0.0 ms"), (0.44, "0.4 ms"), (12.3, "12 ms"), (999.0, "999 ms"), (1234.0, "1.2 s")],
)
def test_milliseconds_have_the_digits_that_tell_them_apart(ms: float, text: str) -> None:
    assert milliseconds(ms) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7620, "2 h 7 min"),
        (273_900, "3 d 4 h"),
    ],
)
def test_spans_name_the_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
