"""The strategy ``sticky`` and its leases."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.model.decision import Egress, Members, Refusal, Target
from egress_policy.policy.selection import PoolPicker, leases
from egress_policy.policy.selection.sticky import Rendezvous
from tests.helpers.clock import Clock
from tests.helpers.pools import Fleet, asked_by, egress, members_of, pool_of
from tests.helpers.statistics import fits

MEMBERS = members_of("abcde")


class Desk:
    """A picker with a sticky pool of which a test asks for names."""

    def __init__(self, members: Members = MEMBERS, **fields: Any) -> None:
        self.fleet, self.clock = Fleet(), Clock()
        self.picker = PoolPicker(self.fleet, clock=self.clock)
        self.use(members, **fields)

    def use(self, members: Members, **fields: Any) -> None:
        self.members, self.pool = members, pool_of(members, "sticky", **fields)

    def ask(
        self, key: str = "c", taken: str | None = None, tried: str = "", in_doubt: str = ""
    ) -> str:
        gone, doubted = ({egress(name).key for name in names} for names in (tried, in_doubt))
        taken = egress(taken).key if taken else None
        target = asked_by(key)
        picked = self.picker.pick(self.pool, self.members, target, taken, gone, doubted)
        assert isinstance(picked, Egress), picked
        return picked.name


# -- rendezvous


def test_every_process_and_machine_deals_the_same() -> None:
    dealt = [Rendezvous("abcde", [1, 1, 1, 2, 9], seed) for seed in (None, 0, 7)]
    found = [
        "".join("abcde"[one.best(f"192.0.2.{n}", ()) or 0] for n in range(20)) for one in dealt
    ]
    assert found == ["eadbeeeeedaeedeecdee", "aeeeeadbbeedeeedeeee", "beaddeeeeeeeeedeeeec"]


def test_keys_are_spread_fairly() -> None:
    names = "abcdefghij"
    desk = Desk(members_of(names))
    counts = Counter(desk.ask(f"client-{number}") for number in range(100_000))
    assert fits(counts, dict.fromkeys(names, 1))


def test_keys_are_spread_by_weight_and_within_a_percent() -> None:
    weights = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 40}
    dealt = Rendezvous([*weights], [*weights.values()], 3)
    counts = Counter("abcde"[dealt.best(f"192.0.2.{number}", ()) or 0] for number in range(50_000))
    assert fits(counts, weights)
    assert all(abs(counts[name] / 50_000 - weight / 50) < 0.01 for name, weight in weights.items())


def test_the_keys_of_a_lost_member_are_spread_fairly() -> None:
    names = "abcdef"
    dealt = Rendezvous(names, [1] * 6, None)
    keys = [key for key in map(str, range(30_000)) if dealt.best(key, ()) == 0]
    counts = Counter(names[dealt.best(key, (0,)) or 0] for key in keys)
    assert fits(counts, dict.fromkeys("bcdef", 1))


@given(
    weights=st.dictionaries(st.text(max_size=5), st.integers(1, 1000), min_size=2, max_size=12),
    keys=st.lists(st.text(max_size=8), max_size=10),
    seed=st.none() | st.integers(0, 9),
    data=st.data(),
)
def test_without_a_member_only_its_own_keys_move_in_whatever_order_the_others_are(
    weights: dict[str, int], keys: list[str], seed: int | None, data: st.DataObject
) -> None:
    names = [*weights]
    gone = data.draw(st.sampled_from(names))
    left = data.draw(st.permutations([name for name in names if name != gone]))
    before = Rendezvous(names, [*weights.values()], seed)
    after = Rendezvous(left, [weights[name] for name in left], seed)
    for key in keys:
        best, other = before.best(key, ()), after.best(key, ())
        assert best is not None
        assert other is not None
        assert names[best] in (gone, left[other])
        out = before.best(key, {names.index(gone)})
        assert out is not None
        assert names[out] == left[other]


def test_more_weight_moves_keys_to_that_member_alone() -> None:
    before, after = (Rendezvous("abcd", [1, weight, 1, 1], None) for weight in (1, 2))
    for key in map(str, range(500)):
        assert after.best(key, ()) in (before.best(key, ()), 1)


# -- leases


def test_a_key_keeps_its_member() -> None:
    desk = Desk()
    dealt = {key: desk.ask(key) for key in map(str, range(50))}
    assert len(set(dealt.values())) == 5
    assert {key: desk.ask(key) for key in reversed(dealt)} == dealt


def test_a_key_whose_member_is_away_moves_and_stays_until_the_lease_ends() -> None:
    desk = Desk(sticky_minutes=30)
    home = desk.ask()
    desk.fleet.put_off(home)
    went = desk.ask()
    assert went != home
    desk.fleet.bring_back(home)
    for _ in range(3):
        desk.clock.now += 29 * 60
        assert desk.ask() == went
    desk.clock.now += 30 * 60
    assert desk.ask() == home


def test_a_key_moves_from_a_member_that_was_tried_in_vain() -> None:
    desk = Desk()
    home = desk.ask()
    went = desk.ask(tried=home)
    assert went != home
    assert desk.ask() == went


def test_a_key_is_lent_another_member_where_its_own_may_have_done_nothing_wrong() -> None:
    """A dead target fails by every member: no key may change its exit for that."""
    desk = Desk()
    home = desk.ask()
    spare = desk.ask(tried=home, in_doubt=home)
    third = desk.ask(tried=home + spare, in_doubt=home + spare)
    assert len({home, spare, third}) == 3
    assert desk.ask() == home
    # It does move once its member is away, or has failed by its own fault.
    assert desk.ask(tried=spare + home, in_doubt=spare) == third
    assert desk.ask() == third
    desk.fleet.put_off(third)
    assert desk.ask(tried=third, in_doubt=third) == desk.ask() == home


def test_other_keys_do_not_move_when_a_member_is_away() -> None:
    desk = Desk()
    dealt = {key: desk.ask(key) for key in map(str, range(200))}
    desk.picker.forget_leases("p")
    desk.fleet.put_off("b")
    now = {key: desk.ask(key) for key in dealt}
    assert all(now[key] == name for key, name in dealt.items() if name != "b")
    assert len({now[key] for key, name in dealt.items() if name == "b"}) == 4


def test_a_miss_finds_the_best_of_those_left_though_many_are_newly_away() -> None:
    desk = Desk()
    ranked = []
    for _ in MEMBERS:
        ranked.append(desk.ask())
        desk.fleet.put_off(ranked[-1])
    assert sorted(ranked) == [*"abcde"]
    other = Desk()
    other.fleet.put_off(*ranked[:4])
    assert other.ask() == ranked[4]
    other.fleet.put_off(ranked[4])
    assert isinstance(other.picker.pick(other.pool, MEMBERS, asked_by()), Refusal)


def test_leases_outlive_edits_and_those_of_lost_members_move() -> None:
    desk = Desk()
    dealt = {key: desk.ask(key) for key in map(str, range(100))}
    moved = next(key for key, name in dealt.items() if name == "a")
    desk.fleet.put_off("a")
    dealt[moved] = desk.ask(moved)
    desk.fleet.bring_back("a")
    desk.use(members_of("abcdexyz"), sticky_minutes=5)
    assert {key: desk.ask(key) for key in dealt} == dealt
    desk.use(members_of("bcde"))
    now = {key: desk.ask(key) for key in dealt}
    assert all(now[key] == name for key, name in dealt.items() if name != "a")


def test_nodes_deal_the_same_and_share_neither_moves_nor_what_is_kept() -> None:
    keys = [*map(str, range(100))]
    node, other = Desk(), Desk()
    dealt = {key: node.ask(key) for key in keys}
    assert {key: other.ask(key) for key in keys} == dealt
    moved = next(key for key, name in dealt.items() if name == "a")
    node.fleet.put_off("a")
    away = node.ask(moved)
    node.fleet.bring_back("a")
    assert (node.ask(moved), other.ask(moved), Desk().ask(moved)) == (away, "a", "a")
    more = members_of("abcdexyz")
    other.use(more)
    assert {key: other.ask(key) for key in keys} == dealt
    restarted, later = Desk(more), Desk(more)
    anew = {key: restarted.ask(key) for key in keys}
    assert anew != dealt
    assert {key: later.ask(key) for key in keys} == anew


@pytest.mark.parametrize("edit", [{"seed": 1}, {"sticky_by": "host"}])
def test_leases_end_when_keys_or_their_deal_become_others(edit: dict[str, Any]) -> None:
    desk = Desk()
    desk.ask()
    desk.use(MEMBERS, **edit)
    desk.ask("other")
    assert len(desk.picker.leases("p")) == 1


def test_minutes_that_are_edited_hold_for_leases_that_there_are() -> None:
    desk = Desk(sticky_minutes=30)
    home = desk.ask()
    desk.fleet.put_off(home)
    desk.ask()
    desk.fleet.bring_back(home)
    desk.use(MEMBERS, sticky_minutes=1)
    desk.clock.now += 61
    assert desk.ask() == home


def test_the_lease_that_was_not_used_for_the_longest_time_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "MOST", 3)
    desk = Desk()
    for key in "abcad":
        desk.ask(key)
    rows = [row.key for row in desk.picker.leases("p")]
    assert rows == [leases.Leases.digest(key).hex() for key in "dac"]


def test_leases_that_ended_are_let_go() -> None:
    desk = Desk(sticky_minutes=1)
    for key in "abc":
        desk.ask(key)
        desk.clock.now += 25
    desk.ask("d")
    assert desk.picker.lease_count("p") == 3
    assert len(desk.picker.leases("p")) == 3
    assert len(desk.picker.leases("p", 2)) == 2
    assert sum(desk.picker.leases_by_member("p").values()) == 3
    assert desk.picker.lease_count("q") == 0


def test_leases_are_listed_without_their_keys_and_forgotten() -> None:
    desk = Desk(sticky_minutes=2)
    name = desk.ask("192.0.2.9")
    desk.clock.now += 50
    desk.ask("192.0.2.9")
    desk.clock.now += 30
    [row] = desk.picker.leases("p")
    assert (row.member, row.age, row.expires) == (name, 80, 90)
    assert "192" not in row.key
    assert desk.picker.forget_leases("p") == 1
    assert desk.picker.leases("p") == []
    assert desk.picker.forget_leases("q") == 0
    desk.ask()
    desk.clock.now += 120
    assert desk.picker.leases("p") == []


# -- open connections


def test_a_connection_is_kept_for_the_key_that_has_its_member_also_when_that_is_away() -> None:
    desk = Desk()
    home = desk.ask()
    desk.fleet.put_off(home)
    desk.clock.now += 20 * 60
    assert desk.ask(taken=home) == home
    desk.clock.now += 20 * 60  # used all the time, so that the lease has not ended
    assert desk.ask(taken=home) == home


def test_a_connection_is_not_shared_with_a_key_that_has_another_member() -> None:
    desk = Desk()
    dealt = {desk.ask(key): key for key in map(str, range(50))}
    assert desk.ask(dealt["a"], taken="b") == "a"
    assert desk.ask(dealt["b"], taken="b") == "b"


def test_a_key_that_moved_leaves_its_old_connection() -> None:
    desk = Desk()
    home = desk.ask()
    desk.fleet.put_off(home)
    went = desk.ask()
    assert desk.ask(taken=home) == went


# -- keys


@pytest.mark.parametrize(
    ("by", "what"), [("user", "user"), ("header:x-account", "header x-account")]
)
def test_a_key_that_is_missing_is_refused_and_named(by: str, what: str) -> None:
    picker = PoolPicker(sticky_key=lambda _by, _target: "")
    found = picker.pick(pool_of(MEMBERS, "sticky", sticky_by=by), MEMBERS, asked_by())
    assert isinstance(found, Refusal)
    assert found.reason is Reason.RULE
    assert f"Pool p is sticky by {what}, which" in found.detail


def test_a_pick_that_needs_the_request_is_left_open() -> None:
    picker = PoolPicker(sticky_key=lambda _by, _target: None)
    pool = pool_of(MEMBERS, "sticky", sticky_by="header:x")
    assert picker.pick(pool, MEMBERS, asked_by(), MEMBERS[0].key) is None
    assert isinstance(picker.pick(pool_of(MEMBERS, "first"), MEMBERS, asked_by()), Egress)


def test_the_key_is_what_the_pool_is_sticky_by() -> None:
    asked: list[tuple[str, Target]] = []

    def key_of(by: str, target: Target) -> str:
        asked.append((by, target))
        return target.host

    picker, target = PoolPicker(sticky_key=key_of), asked_by(host="b.example")
    picker.pick(pool_of(MEMBERS, "sticky", sticky_by="host"), MEMBERS, target)
    assert asked == [("host", target)]
