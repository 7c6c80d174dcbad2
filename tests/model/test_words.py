from datetime import UTC, datetime, timedelta, timezone

from egress_policy.model.words import count, iso_time


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
