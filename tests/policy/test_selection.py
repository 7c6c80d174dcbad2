"""What holds for every strategy."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.model.decision import NO_MEMBERS, Egress, Members, Refusal
from egress_policy.model.pool import STRATEGIES, Pool
from egress_policy.policy.selection import PoolPicker
from tests.helpers.clock import Clock
from tests.helpers.pools import Fleet, asked_by, egress, members_of, pool_of

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def name_of(picked: Egress | Refusal | None) -> str:
    assert isinstance(picked, Egress), picked
    return picked.name


# -- any events, in any order

Event = tuple[str, Any]
NAMES = "abcdef"
CLIENTS = st.sampled_from("xyz")
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pick"), st.tuples(CLIENTS, st.sets(st.sampled_from(NAMES)))),
        st.tuples(st.just("pick"), st.tuples(CLIENTS, st.just(set()))),
        st.tuples(st.sampled_from(["off", "full", "back"]), st.sampled_from(NAMES)),
        st.tuples(st.just("edit"), st.dictionaries(st.sampled_from(NAMES), st.integers(1, 5))),
        st.tuples(st.just("wait"), st.floats(0, 4000)),
        st.tuples(st.just("load"), st.tuples(st.sampled_from(NAMES), st.integers(0, 9))),
    ),
    max_size=40,
)  # fmt: skip


def play(strategy: str, events: Sequence[Event], seed: int, keeps: int = 1000) -> list[str]:
    """What is picked, after each was checked against the members and their condition."""
    fleet, clock = Fleet(keeps), Clock()
    picker = PoolPicker(fleet, random=Random(seed), clock=clock)
    weights: dict[str, int] = dict.fromkeys("abc", 1)
    members = members_of(weights)
    pool = pool_of(members, strategy)
    picks: list[str] = []
    for kind, about in events:
        if kind == "edit":
            weights = about
            members = members_of(weights, weights)
            pool = pool_of(members, strategy)
        elif kind == "back":
            fleet.bring_back(about)
        elif kind == "wait":
            clock.now += about
        elif kind == "load":
            fleet.connections[about[0]], fleet.costs[about[0]] = about[1], about[1] / 10
        elif kind in ("off", "full"):
            fleet.put_off(
                about, reason=Reason.CIRCUIT_OPEN if kind == "off" else Reason.LIMIT_REACHED
            )
        else:
            client, gone = about
            tried = {egress(name).key for name in gone}
            picked = picker.pick(pool, members, asked_by(client), None, tried)
            left = [one for one in members if one.name not in fleet.off and one.name not in gone]
            if isinstance(picked, Refusal):
                assert not left
                assert picked.reason in (
                    Reason.POOL_EMPTY,
                    Reason.CIRCUIT_OPEN,
                    Reason.LIMIT_REACHED,
                )
                picks.append(picked.reason)
            else:
                assert any(picked is one for one in left)
                picks.append(name_of(picked))
    return picks


@every_strategy
@given(events=EVENTS, seed=st.integers(0, 9), keeps=st.sampled_from([0, 2, 1000]))
def test_only_available_untried_members_are_picked_and_equal_events_give_equal_picks(
    strategy: str, events: list[Event], seed: int, keeps: int
) -> None:
    assert play(strategy, events, seed, keeps) == play(strategy, events, seed, keeps)


@every_strategy
def test_the_seed_of_a_pool_decides_and_survives_edits(strategy: str) -> None:
    def picks(order: str) -> list[str]:
        picker = PoolPicker(random=Random(), clock=Clock())
        members = members_of("abc")
        found: list[str] = []
        for strategy_or_edit in order:
            if strategy_or_edit == "e":
                members = members_of("abc" if len(members) > 3 else "abcd")
            pool = pool_of(members, strategy, seed=7)
            picked = [picker.pick(pool, members, asked_by(f"c{n}")) for n in range(30)]
            found += map(name_of, picked)
        return found

    assert picks("-e-e") == picks("-e-e")
    assert strategy == "first" or len(set(picks("-"))) > 1


def test_pools_with_different_seeds_are_dealt_differently() -> None:
    members = members_of("abc")
    dealt = set()
    for seed in (1, 2, None):
        for strategy in ("random", "sticky"):
            pool, picker = pool_of(members, strategy, seed=seed), PoolPicker(random=Random(0))
            picks = (picker.pick(pool, members, asked_by(f"c{n}")) for n in range(40))
            dealt.add("".join(map(name_of, picks)))
    assert len(dealt) == 6


# -- costs


@every_strategy
def test_a_pick_asks_about_few_members_of_a_large_pool(strategy: str) -> None:
    names = [f"p{number}" for number in range(1000)]
    fleet, members = Fleet(), members_of(names)
    fleet.put_off(*names[1::2])
    picker, pool = PoolPicker(fleet, random=Random(1), clock=Clock()), pool_of(members, strategy)
    targets = [asked_by(f"c{number}") for number in range(100)]
    for target in targets * 20:
        assert isinstance(picker.pick(pool, members, target), Egress)
    assert len(fleet.asked) <= 2000 + 1000
    fleet.asked.clear()
    for target in targets:
        picker.pick(pool, members, target)
    assert len(fleet.asked) <= 100 * 3
    fleet.put_off(*names)
    picker.pick(pool, members, targets[0])
    fleet.asked.clear()
    for target in targets:
        assert isinstance(picker.pick(pool, members, target), Refusal)
    assert not fleet.asked


# -- refusals


def refused(
    fleet: Fleet, names: str = "abc", tried: str = "", clock: Clock | None = None
) -> Refusal:
    members = members_of(names)
    picker = PoolPicker(fleet, clock=clock or Clock())
    keys = {egress(name).key for name in tried}
    found = picker.pick(pool_of(members), members, asked_by(), None, keys)
    assert isinstance(found, Refusal)
    return found


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        ("circuit_open circuit_open", Reason.CIRCUIT_OPEN),
        ("limit_reached limit_reached", Reason.LIMIT_REACHED),
        ("limit_reached circuit_open", Reason.CIRCUIT_OPEN),
        ("exit_unverified exit_unverified", Reason.EXIT_UNVERIFIED),
        ("exit_unverified exit_mismatch", Reason.EXIT_MISMATCH),
        ("exit_mismatch limit_reached", Reason.CIRCUIT_OPEN),
    ],
)
def test_refusal_has_the_reason_that_all_share(reasons: str, reason: Reason) -> None:
    fleet = Fleet()
    for name, word in zip("ab", reasons.split(), strict=True):
        fleet.put_off(name, reason=Reason(word))
    assert refused(fleet, "ab").reason is reason


def test_refusal_is_a_sentence_that_names_the_pool_and_counts_why() -> None:
    fleet = Fleet()
    fleet.put_off("a", "b")
    fleet.put_off("c", reason=Reason.LIMIT_REACHED)
    found = refused(fleet)
    assert found.detail == (
        "Pool p has no available member (circuit open: 2, connection limit reached: 1); "
        "refusing to egress (fail-closed)"
    )
    assert found.host == "a.example"
    fleet = Fleet()
    fleet.put_off("a", reason=Reason.LIMIT_REACHED)
    tried = refused(fleet, "ab", tried="b")
    assert (tried.reason, "tried already: 1" in tried.detail) == (Reason.CIRCUIT_OPEN, True)


def test_retry_after_is_that_of_the_first_member_that_may_be_back() -> None:
    fleet, clock, members = Fleet(), Clock(), members_of("abc")
    picker, pool = PoolPicker(fleet, clock=clock), pool_of(members)

    def wait() -> float | None:
        found = picker.pick(pool, members, asked_by())
        assert isinstance(found, Refusal)
        return found.retry_after

    fleet.put_off("a", retry_after=9)
    fleet.put_off("b", retry_after=4)
    fleet.put_off("c", retry_after=None)
    assert wait() == 4
    clock.now += 3
    assert wait() == 1
    fleet.put_off("b", retry_after=30)  # its trial failed
    clock.now += 2
    assert wait() == 4  # that of a, noted 5 s ago
    fleet.bring_back("a")
    assert name_of(picker.pick(pool, members, asked_by())) == "a"
    fleet.put_off("a", retry_after=None)
    fleet.put_off("b", retry_after=None)
    assert wait() == 30  # b is asked again when its time has come
    clock.now += 31
    assert wait() is None


def test_a_pool_without_members_is_refused() -> None:
    found = PoolPicker().pick(Pool(name="p", members=()), NO_MEMBERS, asked_by())
    assert isinstance(found, Refusal)
    assert (found.reason, "Pool p" in found.detail) == (Reason.POOL_EMPTY, True)


# -- open connections


@pytest.mark.parametrize("strategy", [one for one in STRATEGIES if one != "sticky"])
def test_an_open_connection_keeps_its_member_also_one_that_is_away(strategy: str) -> None:
    fleet, members = Fleet(), members_of("abc")
    picker, pool = PoolPicker(fleet), pool_of(members, strategy)
    for _ in range(2):
        for one in reversed(members):
            assert picker.pick(pool, members, asked_by(), one.key) is one
        fleet.put_off("b", "c")
    assert name_of(picker.pick(pool, members, asked_by(), members[1].key, {members[1].key})) == "a"
    assert not sum(picker.shares("p").values()) - 1


def test_an_open_connection_takes_no_turn() -> None:
    picker, members = PoolPicker(), members_of("abc")
    pool = pool_of(members)
    assert name_of(picker.pick(pool, members, asked_by())) == "a"
    assert picker.pick(pool, members, asked_by(), members[2].key) is members[2]
    assert name_of(picker.pick(pool, members, asked_by())) == "b"


@every_strategy
def test_an_open_connection_by_an_edited_or_foreign_member_is_not_kept(strategy: str) -> None:
    members = members_of("a")
    edited = Egress(members[0].proxy.model_copy(update={"port": 9}))  # type: ignore[union-attr]
    for key in (edited.key, egress("b").key, egress("a", target_family="ipv4").key):
        assert PoolPicker().pick(pool_of(members, strategy), members, asked_by(), key) is members[0]


# -- edits


@every_strategy
def test_members_of_another_target_family_share_the_state_of_the_pool(strategy: str) -> None:
    members = members_of("abc")
    pinned = Members((egress(one.name, target_family="ipv4") for one in members), members.weights)
    fleet, pool = Fleet(), pool_of(members, strategy)
    picker, other = (PoolPicker(fleet, random=Random(1), clock=Clock()) for _ in range(2))
    targets = [asked_by(f"c{number % 5}") for number in range(30)]
    for number, target in enumerate(targets):
        if number == 15:
            fleet.put_off("b")
        mixed = picker.pick(pool, pinned if number % 2 else members, target)
        assert isinstance(mixed, Egress)
        assert mixed.target_family == ("ipv4" if number % 2 else None)
        assert mixed.name == name_of(other.pick(pool, members, target))


@every_strategy
def test_a_member_that_is_edited_is_asked_about_again(strategy: str) -> None:
    fleet, members = Fleet(), members_of("a")
    picker, pool = PoolPicker(fleet), pool_of(members, strategy)
    fleet.put_off("a")
    assert isinstance(picker.pick(pool, members, asked_by()), Refusal)
    fleet.off.clear()  # by the edit: nothing has come back
    proxy = members[0].proxy
    assert proxy
    edited = Members([Egress(proxy.model_copy(update={"max_connections": 9}))])
    assert picker.pick(pool, edited, asked_by()) is edited[0]


def test_shares_are_counted_by_member_and_outlive_edits() -> None:
    picker, members = PoolPicker(), members_of("ab")
    for _ in range(3):
        picker.pick(pool_of(members), members, asked_by())
    assert picker.shares("p") == {"a": 2, "b": 1}
    fewer = members_of("bc")
    picker.pick(pool_of(fewer, "first"), fewer, asked_by())
    assert picker.shares("p") == {"b": 2, "c": 0}
    assert picker.shares("q") == {}


def test_pools_that_are_gone_are_forgotten() -> None:
    picker, members = PoolPicker(), members_of("ab")
    for name in "pq":
        picker.pick(pool_of(members, "sticky", name=name), members, asked_by())
    picker.keep({"q": 1})
    assert (picker.leases("p"), picker.shares("p")) == ([], {})
    assert picker.leases("q")
