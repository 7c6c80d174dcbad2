"""The history of the last hour: against a naive model, with any clock, and within its bounds."""

import math
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.management.attempts import MOST
from egress_policy.management.history import MINUTES, History, Past, Ring
from egress_policy.management.live import LiveEvent
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import OTHER
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import HopFailure, Outcome
from tests.helpers.clock import Clock

NOON = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)
"""Half a minute into a minute."""


def history() -> tuple[History, Clock]:
    clock = Clock()
    return History(clock, lambda: NOON + timedelta(seconds=clock.now - 1000)), clock


def event(**fields: Any) -> LiveEvent:
    stated = {"at": 1.5, "flow_id": "f", "client": "192.0.2.9", "kind": "http"}
    stated |= {"host": "origin.test", "port": 443, "use": "direct"}
    return LiveEvent(**{**stated, **fields})


def by(proxy: str, **fields: Any) -> LiveEvent:
    return event(use="proxy", proxy=proxy, **fields)


def route(proxy: str = "") -> Route:
    egress = Egress(Proxy(name=proxy, type="socks5", host="192.0.2.1", port=1) if proxy else None)
    return Route(Choice(egress), Pin(("192.0.2.1",), 4), ("192.0.2.1", 443))


def attempt(cause: Cause | None = None, hop: float | None = 0.01) -> Outcome:
    failure = HopFailure(Reason.CONNECT_REFUSED, "it failed", cause) if cause else None
    return Outcome("attempt", "192.0.2.1", failure, 0.0, 0.02, None if failure else hop)


@given(
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(-3, 12), st.integers(0, 2**40)), max_size=40),
)
def test_a_ring_has_the_sums_of_the_latest_ticks(size: int, steps: list[tuple[int, int]]) -> None:
    ring, sums, latest, now = Ring(size), Counter[int](), 0, 0
    for step, amount in steps:
        now += step
        latest = max(latest, now)
        ring.add(now, amount)
        sums[latest] += amount
        expected = [sums[tick] for tick in range(latest - size + 1, latest + 1)]
        assert ring.listed(now) == expected
        assert ring.total(latest) == sum(expected)
    later = latest + size
    assert (ring.total(later), ring.listed(later)) == (0, [0] * size)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.floats(-200, 200), st.sampled_from((0.0, 59.9, 3600.0, 1e6))),
            st.sampled_from(("home", "direct", "refused", "home refused")),
            st.integers(0, 10_000),
        ),
        max_size=30,
    )
)
def test_flows_and_bytes_stand_in_their_minute_whatever_the_clock_does(
    steps: list[tuple[float, str, int]],
) -> None:
    """Where the clock goes back, what happens then counts for the latest minute of each count."""
    told, clock = history()
    seen: list[tuple[str, int, int]] = []
    latest: dict[str, int] = {}
    furthest = clock.now
    for step, what, size in steps:
        clock.now = max(1000, clock.now + step)
        furthest = max(furthest, clock.now)
        exit_ = what.removesuffix("refused").strip()
        refused = {"code": "PROXY_UNREACHABLE", "reason": "circuit_open"}
        told.ended(
            event(
                use="proxy" if exit_ == "home" else exit_ or "refuse",
                proxy="home" if exit_ == "home" else "",
                **(refused if what.endswith("refused") else {}),
            )
        )
        if what == exit_:
            told.carried(what, size, 0)
            told.carried(what, 0, 2 * size)
        for counted in {exit_, "refused" if what.endswith("refused") else ""} - {""}:
            minute = math.floor((clock.now - 1000 + 30) / 60)
            latest[counted] = max(latest.get(counted, 0), minute)
            seen.append((f"{counted} {what}", latest[counted], size))
    clock.now = furthest
    last = told.minute

    def listed(*counts: str, by_size: bool = False) -> list[int]:
        return [
            sum(size if by_size else 1 for one, at, size in seen if at == minute and one in counts)
            for minute in range(last - MINUTES + 1, last + 1)
        ]

    used = told.exits()
    for name in ("home", "direct"):
        past = used.get(name, Past())
        assert past.listed("flows") == listed(f"{name} {name}")
        assert past.listed("up") == listed(f"{name} {name}", by_size=True)
        assert past.total("down") == 2 * sum(listed(f"{name} {name}", by_size=True))
    assert used.get("home", Past()).listed("refused") == listed("home home refused")
    refusals = listed("refused refused", "refused home refused")
    assert told.refused() == refusals
    count = sum(refusals)
    assert told.reasons() == ([("PROXY_UNREACHABLE", "circuit_open", count)] if count else [])
    for name, up, down in told.bytes():
        assert up == sum(size for one, _, size in seen if one == f"{name} {name}")
        assert down == 2 * up


def test_minutes_are_those_of_the_clock_on_the_wall() -> None:
    told, clock = history()
    assert told.minutes()[-2:] == ["2026-01-31T11:59:00.000Z", "2026-01-31T12:00:00.000Z"]
    told.ended(event())
    clock.now += 29
    told.ended(event())
    clock.now += 1
    told.ended(event())
    assert told.exits()["direct"].listed("flows")[-3:] == [0, 2, 1]
    assert told.minutes()[-1] == "2026-01-31T12:01:00.000Z"
    assert len(told.minutes()) == MINUTES


def test_minutes_begin_with_a_second_although_two_clocks_are_read() -> None:
    clock, wall = Clock(), Clock(0.0)
    told = History(clock, lambda: NOON + timedelta(seconds=wall.now))
    clock.now, wall.now = 1045, 44.9996
    assert told.minutes()[-1] == "2026-01-31T12:01:00.000Z"
    assert all(one.endswith(":00.000Z") for one in told.minutes())


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    told, clock = history()
    for _ in range(30):
        told.ended(event())
    assert told.per_second() == 0  # the second that runs is not over
    clock.now += 1
    assert told.per_second() == 3
    clock.now += 10
    assert told.per_second() == 0


def test_attempts_give_hop_times_and_failures_by_the_exits_fault() -> None:
    told, _ = history()
    for cause in (None, Cause.BROKEN, Cause.OWN, Cause.NOBODY, Cause.TARGET):
        told.attempted(route("home"), attempt(cause))
    told.attempted(route("home"), attempt(hop=None))  # it never told
    told.attempted(route("home"), Outcome("dial", "192.0.2.1", None, 0.0, 5.0))
    told.attempted(route(), Outcome("dial", "192.0.2.1", None, 0.0, 0.003))
    gone = HopFailure(Reason.CONNECT_REFUSED, "the target is gone", Cause.REFUSED)
    told.attempted(route(), Outcome("dial", "192.0.2.1", gone, 0.0, 0.003))
    used = told.exits()
    home, direct = used["home"], used["direct"]
    assert (home.total("failed"), home.total("hops")) == (1, 1)
    assert home.total("hop_us") == 10_000
    assert (direct.total("hops"), direct.total("hop_us")) == (1, 3_000)
    assert direct.total("failed") == 0


@given(st.lists(st.floats(0.001, 50), min_size=1, max_size=200), st.floats(0.01, 1))
def test_hop_times_are_right_within_a_class(seconds: list[float], share: float) -> None:
    told, clock = history()
    assert told.hop_ms(share) == [None]
    for one in seconds:
        told.attempted(route("home"), attempt(hop=one))
    exact = sorted(seconds)[math.ceil(share * len(seconds) - 1e-9) - 1] * 1000
    (found,) = told.hop_ms(share)
    assert found == pytest.approx(exact, rel=0.05, abs=0.1)
    clock.now += 3600
    assert told.hop_ms(share) == [None]


def test_the_first_exits_in_use_have_numbers_of_their_own() -> None:
    told, clock = history()
    for number in range(MOST + 5):
        told.ended(by(f"p{number}"))
        told.carried(f"p{number}", 1, 2)
    used = told.exits()
    assert len(used) == MOST + 1
    assert used[OTHER].total("flows") == 5
    clock.now += 1800
    told.ended(by("p7"))
    clock.now += 1801
    told.ended(by("new"))  # all but two exits have not been used for an hour
    assert told.exits().keys() == {"p7", "new"}
    _, up, down = zip(*told.bytes(), strict=True)
    assert (sum(up), sum(down)) == (MOST + 5, 2 * (MOST + 5))  # counters of metrics never go down


def test_a_crowd_of_new_exits_is_cheap_where_there_is_no_room() -> None:
    told, clock = history()
    for number in range(MOST):
        told.ended(by(f"p{number}"))
    looked = Counter[str]()
    made_room = told._made_room

    def counted(now: float) -> bool:
        looked["full" if told._full_until > now else "search"] += 1
        return made_room(now)

    told._made_room = counted  # type: ignore[method-assign]
    for number in range(100):
        told.ended(by(f"late{number}"))
        clock.now += 0.1
    assert looked == {"search": 1, "full": 99}


def test_memory_is_bounded() -> None:
    told, clock = history()
    for number in range(2 * MOST):
        name = f"p{number}"
        told.ended(by(name, duration_ms=5.0))
        told.ended(by(name, code="X", reason=str(number)))
        told.carried(name, 1, 1)
        told.attempted(route(name), attempt(hop=number / 100))
        told.attempted(route(name), attempt(Cause.BROKEN))
        clock.now += 0.5
    rows = [row for past in told.exits().values() for row in past._rows.values()]
    rows += [ring._sums for ring in (*told._reasons.values(), *told._classes.values())]
    assert len(rows) < 7 * (MOST + 1) + 300
    assert sum(map(sys.getsizeof, rows)) < 5e6


def test_durations_are_counted_by_use() -> None:
    told, _ = history()
    told.ended(by("home", duration_ms=30.0))
    told.ended(event(duration_ms=30_000.0))
    told.ended(by("home", duration_ms=1.0, code="X", reason="y"))
    assert told.durations["proxy"].total == 0.03
    assert [*told.durations["direct"].cumulative()][-2:] == [("10.0", 0), ("+Inf", 1)]
    assert sum(told.durations["proxy"].counts) == 1
