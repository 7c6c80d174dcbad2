"""Exits: what observations amount to, what contradicts an expectation, and who leaves together."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.model.proxy import Proxy
from egress_policy.policy.exits import (
    FRESH,
    KEPT,
    ROTATING_SPAN,
    STABLE_COUNT,
    STABLE_SPAN,
    STALE_AFTER,
    ExitUser,
    Observation,
    Sharing,
    Sightings,
    changed_from,
    contradicted,
    contradiction,
    mismatch,
    parse_exit_address,
    refusal,
    same_until,
    shared_exits,
    verdict,
)

A, B, C6 = "203.0.113.1", "203.0.113.2", "2001:db8::1"
MINUTE = 60.0


def seen(*pairs: tuple[str, float], restored: bool = False) -> Sightings:
    """Addresses, each with the minute at which it was seen."""
    sightings = Sightings()
    for address, minute in pairs:
        sightings.add(Observation(address, minute * MINUTE, "echo", restored))
    return sightings


def verdict_of(*pairs: tuple[str, float], minute: float = 0) -> str:
    last = max((at for _, at in pairs), default=0.0)
    return verdict(seen(*pairs).of("ipv4"), max(last, minute) * MINUTE)


def proxy(**fields: Any) -> Proxy:
    return Proxy.model_validate({"name": "home-1", "host": "192.0.2.1", **fields})


# -- verdicts


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], "unknown"),
        ([(A, 0)], "unknown"),
        ([(A, 0), (A, 10)], "unknown"),
        ([(A, 0), (A, 1), (A, 9)], "unknown"),
        ([(A, 0), (A, 1), (A, 10)], "stable"),
        ([(A, 0), (A, 600), (A, 1200)], "stable"),
        ([(A, 0), (B, 30)], "rotating"),
        ([(A, 0), (B, 31)], "unknown"),
        ([(A, 0), (A, 5), (A, 10), (B, 12)], "rotating"),
        ([(B, 0), (A, 31), (A, 35), (A, 41)], "stable"),
        ([(A, 0), (A, 5), (B, 50), (A, 100)], "unknown"),
    ],
)
def test_verdict(pairs: list[tuple[str, float]], expected: str) -> None:
    assert verdict_of(*pairs) == expected


@pytest.mark.parametrize("pairs", [[(A, 10)], [(A, 0), (A, 5), (A, 10)], [(A, 9), (B, 10)]])
def test_what_was_seen_more_than_a_day_ago_is_stale(pairs: list[tuple[str, float]]) -> None:
    day = STALE_AFTER / MINUTE
    assert verdict_of(*pairs, minute=10 + day) != "stale"
    assert verdict_of(*pairs, minute=10.1 + day) == "stale"


@given(
    st.lists(st.tuples(st.sampled_from([A, B]), st.floats(0, 4000)), max_size=60),
    st.floats(0, 9000),
)
def test_verdict_follows_its_definition(pairs: list[tuple[str, float]], minute: float) -> None:
    ordered = sorted(pairs, key=lambda pair: pair[1])
    kept = seen(*ordered).of("ipv4")
    now = max([minute, *(at for _, at in ordered)]) * MINUTE
    found = verdict(kept, now)
    if not ordered:
        assert found == "unknown"
        return
    last, at = ordered[-1][0], ordered[-1][1] * MINUTE
    assert (found == "stale") is (now - at > STALE_AFTER)
    if found == "stale":
        return
    differ = [one for one in kept if one.address != last and at - one.at <= ROTATING_SPAN]
    assert (found == "rotating") is bool(differ)
    if found == "stable":
        run = [one for one in kept if one.address == last]
        assert len(run) >= STABLE_COUNT
        assert at - run[0].at >= STABLE_SPAN


@given(st.floats(0.05, 30), st.integers(3, 400))
def test_an_exit_that_never_changes_becomes_stable_however_often_it_is_looked_at(
    minutes: float, looks: int
) -> None:
    sightings = seen(*((A, number * minutes) for number in range(looks)))
    kept = sightings.of("ipv4")
    span = (looks - 1) * minutes * MINUTE
    now = span
    assert len(kept) <= KEPT
    assert kept[-1].at == pytest.approx(now)
    if span >= STABLE_SPAN:
        assert verdict(kept, now) == "stable"


@given(st.permutations([(A, 0.0), (A, 4.0), (B, 7.0), (A, 11.0), (B, 60.0)]))
def test_observations_are_kept_in_order_of_time(pairs: Sequence[tuple[str, float]]) -> None:
    assert [one.at for one in seen(*pairs).of("ipv4")] == [0, 240, 420, 660, 3600]


def test_families_do_not_mix() -> None:
    sightings = seen((A, 0), (C6, 1), (A, 5), (C6, 6), (A, 10), (C6, 11))
    assert [verdict(sightings.of(one), 700) for one in ("ipv4", "ipv6")] == ["stable", "stable"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.1", A),
        ("::ffff:203.0.113.1", A),
        ("2001:DB8:0::1", C6),
        ("fe80::1%eth0", None),
        ("0.0.0.0", None),
        ("::", None),
        ("203.0.113.1, 203.0.113.2", None),
        ("home.example", None),
    ],
)
def test_address_that_a_target_can_see(text: str, address: str | None) -> None:
    assert parse_exit_address(text) == address


# -- drift


def change(before: Sightings, new: Observation) -> str | None:
    found = changed_from(before.of(new.family), new)
    return found.address if found else None


def test_a_stable_exit_that_is_another_has_changed() -> None:
    stable = seen((A, 0), (A, 5), (A, 10))
    assert change(stable, Observation(B, 660, "echo")) == A
    assert change(stable, Observation(B, 660 + 2 * STALE_AFTER, "echo")) == A
    assert change(stable, Observation(A, 660, "echo")) is None
    assert change(stable, Observation(C6, 660, "echo")) is None
    assert change(stable, Observation(B, 30, "push")) is None, "it came late"


def test_an_exit_that_was_never_stable_does_not_change() -> None:
    assert change(seen((A, 0), (A, 5)), Observation(B, 660, "echo")) is None
    assert change(seen((A, 0), (A, 5), (A, 10), (B, 11)), Observation(A, 700, "echo")) is None


# -- expectations


@pytest.mark.parametrize(
    ("fields", "address", "agrees"),
    [
        ({}, A, True),
        ({"exit_family": "ipv4"}, A, True),
        ({"exit_family": "ipv4"}, C6, False),
        ({"exit_family": "ipv6"}, A, False),
        ({"exit_in": ["203.0.113.0/24"]}, A, True),
        ({"exit_in": ["203.0.113.0/24"]}, "198.51.100.1", False),
        ({"exit_in": ["203.0.113.0/24"]}, C6, False),
        ({"exit_in": ["203.0.113.0/24", "2001:db8::/32"]}, C6, True),
        ({"exit_in": ["::ffff:203.0.113.0/120"]}, A, True),
        ({"exit_family": "ipv4", "exit_in": ["203.0.113.2"]}, A, False),
    ],
)
def test_contradiction(fields: dict[str, Any], address: str, agrees: bool) -> None:
    why = contradiction(proxy(**fields), Observation(address, 0, "echo"))
    assert (why is None) is agrees
    assert address not in (why or "")


def reason_at(minute: float, sightings: Sightings | None, **fields: Any) -> Reason | None:
    expected = fields or {"exit_in": ["0.0.0.0/0", "::/0"]}
    found = refusal(proxy(exit_enforce=True, **expected), sightings, minute * MINUTE)
    if found:
        assert (found.proxy, found.host) == ("home-1", "192.0.2.1")
        assert A not in found.detail
    return found.reason if found else None


def test_enforcement_wants_a_match_that_is_younger_than_a_quarter_of_an_hour() -> None:
    good = seen((A, 0))
    assert reason_at(14.9, good, exit_in=["203.0.113.0/24"]) is None
    assert reason_at(FRESH / MINUTE, good, exit_in=["203.0.113.0/24"]) is Reason.EXIT_UNVERIFIED
    assert reason_at(0, None) is Reason.EXIT_UNVERIFIED
    assert reason_at(1, good) is None


def test_enforcement_names_a_mismatch_also_when_that_is_old() -> None:
    for minute in (0, 20):
        assert reason_at(minute, seen((A, 0)), exit_family="ipv6") is Reason.EXIT_MISMATCH
    late = STALE_AFTER / MINUTE + 1
    assert reason_at(late, seen((A, 0)), exit_family="ipv6") is Reason.EXIT_UNVERIFIED


def test_the_latest_look_decides() -> None:
    fields = {"exit_in": ["203.0.113.1"]}
    assert reason_at(3, seen((A, 0), (B, 2)), **fields) is Reason.EXIT_MISMATCH
    assert reason_at(3, seen((B, 0), (A, 2)), **fields) is None
    assert reason_at(3, seen((A, 0), (C6, 2)), exit_family="ipv6") is None


def test_where_both_families_are_open_neither_may_contradict() -> None:
    fields = {"exit_in": ["2001:db8::/32", "198.51.100.0/24"]}
    assert reason_at(3, seen((A, 0), (C6, 2)), **fields) is Reason.EXIT_MISMATCH
    assert reason_at(16, seen((A, 0), (C6, 2)), **fields) is None


def test_what_was_seen_before_the_start_verifies_nothing() -> None:
    assert reason_at(1, seen((A, 0), restored=True)) is Reason.EXIT_UNVERIFIED


def test_contradiction_is_forgotten_when_it_is_stale() -> None:
    six = proxy(exit_family="ipv6")
    assert contradicted(six, seen((A, 0)), STALE_AFTER)
    assert contradicted(six, seen((A, 0)), STALE_AFTER + 1) is None
    assert contradicted(six, seen((A, 0), (C6, 1)), 100) is None


@given(
    st.lists(st.tuples(st.sampled_from([A, B, C6]), st.floats(0, 60)), max_size=12),
    st.floats(0, 100),
    st.sampled_from(
        [
            {"exit_family": "ipv4"},
            {"exit_family": "ipv6"},
            {"exit_in": [A]},
            {"exit_in": [A, "2001:db8::/32"]},
            {"exit_family": "ipv4", "exit_in": [A]},
        ]
    ),
)
def test_nothing_is_let_through_without_a_fresh_match(
    pairs: list[tuple[str, float]], minute: float, fields: dict[str, Any]
) -> None:
    guarded = proxy(exit_enforce=True, **fields)
    if refusal(guarded, seen(*pairs), minute * MINUTE) is None:
        assert any(
            minute * MINUTE - at * MINUTE < FRESH
            and contradiction(guarded, Observation(address, at, "echo")) is None
            for address, at in pairs
        )


@given(
    st.lists(st.tuples(st.sampled_from([A, B, C6]), st.floats(0, 60), st.booleans()), max_size=12),
    st.lists(st.floats(0, 2000), min_size=1, max_size=5).map(sorted),
    st.sampled_from([{"exit_family": "ipv6"}, {"exit_in": [A]}, {"exit_in": [A, "2001:db8::/32"]}]),
)
def test_what_is_open_ends_for_a_fresh_contradiction_and_never_for_time_alone(
    given_: list[tuple[str, float, bool]], minutes: list[float], fields: dict[str, Any]
) -> None:
    guarded, sightings = proxy(exit_enforce=True, **fields), Sightings()
    for address, minute, restored in given_:
        sightings.add(Observation(address, minute * MINUTE, "echo", restored))
    ended = [mismatch(guarded, sightings, minute * MINUTE) for minute in minutes]
    assert not any(later and not before for before, later in itertools.pairwise(ended))
    if ended[0]:
        refused = refusal(guarded, sightings, minutes[0] * MINUTE)
        assert refused == ended[0]
        assert refused.reason is Reason.EXIT_MISMATCH
        assert any(
            minutes[0] - at < FRESH / MINUTE
            and not restored
            and contradiction(guarded, Observation(address, at, "echo"))
            for address, at, restored in given_
        )


@given(
    st.lists(st.tuples(st.sampled_from([A, B, C6]), st.floats(0, 60)), max_size=6),
    st.floats(0, 100),
    st.floats(0, 1),
)
def test_time_alone_changes_nothing_until_it_is_said_to(
    pairs: list[tuple[str, float]], minute: float, share: float
) -> None:
    guarded = proxy(exit_enforce=True, exit_in=[A, "2001:db8::/32"])
    sightings, now = seen(*pairs), minute * MINUTE
    until = min(same_until(sightings, now), 3 * STALE_AFTER)
    later = min(now + share * (until - now), until - 0.001)
    if later >= now:
        assert refusal(guarded, sightings, later) == refusal(guarded, sightings, now)


# -- sharing


def sharing(users: str, minute: float = 0, **exits: Sightings) -> list[tuple[str, str, bool]]:
    """``users`` are ``label=proxy``, all of one group. What leaves together, by label."""
    given = [ExitUser("g", *one.split("=")) for one in users.split()]
    found = shared_exits(given, exits.get, minute * MINUTE)
    return sorted(
        (" ".join(user.label for user in one.users), one.exit, one.decided) for one in found
    )


def test_same_ipv4_address_and_same_64_are_one_exit() -> None:
    assert sharing("a=p b=q", p=seen((A, 0)), q=seen((A, 0))) == [("a b", A, True)]
    assert sharing("a=p b=q", p=seen((A, 0)), q=seen((B, 0))) == []
    p, q = seen(("2001:db8::1", 0)), seen(("2001:db8::2", 0))
    assert sharing("a=p b=q", p=p, q=q) == [("a b", "2001:db8::/64", True)]
    assert sharing("a=p b=q", p=p, q=seen(("2001:db8:0:1::1", 0))) == []


def test_two_users_of_one_proxy_leave_together_whatever_its_exit_is() -> None:
    assert sharing("a=p b=p c=q") == [("a b", "", True)]
    assert sharing("a=p b=p", p=seen((A, 0))) == [("a b", A, True)]


def test_of_a_rotating_exit_nobody_can_tell() -> None:
    rotating = seen((A, 0), (B, 1))
    assert sharing("a=p b=q", p=rotating, q=seen((A, 0))) == [("a", "", False)]
    assert sharing("a=p", p=rotating) == []


def test_addresses_that_change_within_one_64_are_decided() -> None:
    p, q = seen(("2001:db8::1", 0), ("2001:db8::2", 1)), seen(("2001:db8::3", 1))
    assert sharing("a=p b=q", p=p, q=q) == [("a b", "2001:db8::/64", True)]


def test_an_exit_that_is_stale_is_not_known() -> None:
    late = STALE_AFTER / MINUTE + 1
    assert sharing("a=p b=q", late, p=seen((A, 0)), q=seen((A, 0))) == []


def test_groups_do_not_mix() -> None:
    users = [ExitUser("g", "a", "p"), ExitUser("h", "b", "p")]
    assert shared_exits(users, lambda _: seen((A, 0)), 0) == []
    both = [ExitUser("g", "a", "p"), ExitUser("g", "b", "p"), *users[1:]]
    assert shared_exits(both, lambda _: None, 0) == [Sharing("g", tuple(both[:2]))]
