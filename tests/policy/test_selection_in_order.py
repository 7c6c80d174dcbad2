"""The strategies ``first`` and ``round-robin``."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from egress_policy.model.decision import Egress, Members
from egress_policy.policy.selection import PoolPicker
from tests.helpers.pools import Fleet, asked_by, egress, members_of, pool_of


def take(
    picker: PoolPicker, members: Members, times: int, name: str = "p", strategy: str = "round-robin"
) -> str:
    pool, names = pool_of(members, strategy, name=name), []
    for _ in range(times):
        picked = picker.pick(pool, members, asked_by())
        assert isinstance(picked, Egress)
        names.append(picked.name)
    return "".join(names)


def test_first_takes_the_first_that_is_available() -> None:
    fleet, members = Fleet(), members_of("bac")
    picker = PoolPicker(fleet)
    assert take(picker, members, 3, strategy="first") == "bbb"
    fleet.put_off("b", "a")
    assert take(picker, members, 2, strategy="first") == "cc"
    fleet.bring_back("a")
    assert take(picker, members, 2, strategy="first") == "aa"
    fleet.bring_back("b")
    assert take(picker, members, 2, strategy="first") == "bb"


def test_first_takes_the_next_one_for_what_was_tried_and_the_first_again_after_it() -> None:
    picker, members = PoolPicker(), members_of("abc")
    pool = pool_of(members, "first")
    tried = {egress("a").key, egress("b").key}
    assert picker.pick(pool, members, asked_by(), None, tried) is members[2]
    assert picker.pick(pool, members, asked_by()) is members[0]


def test_round_robin_takes_each_in_its_turn() -> None:
    assert take(PoolPicker(), members_of("abc"), 7) == "abcabca"


def test_pools_turn_independently() -> None:
    picker, members = PoolPicker(), members_of("ab")
    turns = [take(picker, members, 1, name) for name in "pqp"]
    assert "".join(turns) == "aab"


def test_heavy_members_are_spread_evenly() -> None:
    weights = {"a": 3, "b": 1}
    assert take(PoolPicker(), members_of("ab", weights), 8) == "aabaaaba"


def test_round_robin_goes_on_when_members_change() -> None:
    picker = PoolPicker()
    assert take(picker, members_of("abc"), 2) == "ab"
    assert take(picker, members_of("ab"), 3) == "aba"
    assert take(picker, members_of("abz"), 3) == "bza"


def test_a_member_that_was_away_makes_up_for_nothing() -> None:
    fleet, members = Fleet(), members_of("ab")
    picker = PoolPicker(fleet)
    fleet.put_off("a")
    assert take(picker, members, 50) == "b" * 50
    fleet.bring_back("a")
    assert take(picker, members, 4) in ("abab", "baba")


def test_a_member_that_comes_and_goes_gets_no_more_than_its_share() -> None:
    fleet, members = Fleet(), members_of("abcd")
    picker, taken = PoolPicker(fleet), ""
    for _ in range(100):
        taken += take(picker, members, 1)
        fleet.put_off("a")
        taken += take(picker, members, 1)
        fleet.bring_back("a")
    assert Counter(taken)["a"] <= 51


def test_weights_are_kept_within_a_percent() -> None:
    weights = {"a": 1, "b": 2, "c": 3, "d": 94}
    counts = Counter(take(PoolPicker(), members_of(weights, weights), 10_000))
    assert all(abs(counts[name] - weight * 100) <= weight for name, weight in weights.items())


@given(
    weights=st.lists(st.sampled_from([1, 1, 2, 5]), min_size=2, max_size=6),
    events=st.lists(st.integers(-6, 6), max_size=60),
)
def test_members_of_equal_weight_that_stay_never_differ_by_more_than_one(
    weights: list[int], events: list[int]
) -> None:
    names = "abcdef"[: len(weights)]
    fleet, members = Fleet(), Members(map(egress, names), weights)
    picker, pool, counts = PoolPicker(fleet), pool_of(members), Counter[str]()
    steady = set(names)
    for event in events:
        name = names[abs(event) % len(names)]
        if event > 2 and len(steady - {name}) > 0:
            steady.discard(name)
            fleet.put_off(name)
        elif event < -2:
            fleet.bring_back(name)
        picked = picker.pick(pool, members, asked_by())
        assert isinstance(picked, Egress)
        counts[picked.name] += 1
        for weight in weights:
            same = [
                counts[n]
                for n, w in zip(names, weights, strict=True)
                if w == weight and n in steady
            ]
            assert not same or max(same) - min(same) <= 1


class Naive:
    """Stride scheduling in so many words: looks at every member at each pick."""

    def __init__(self) -> None:
        self.now = 0
        self.turns: dict[str, int] = {}
        self.away: set[str] = set()

    def edit(self, weights: dict[str, int]) -> None:
        self.back(self.away)
        self.strides = {name: (1 << 30) // weight for name, weight in weights.items()}
        self.turns = {
            name: min(self.turns.get(name, self.now + stride // 2), self.now + stride)
            for name, stride in self.strides.items()
        }

    def back(self, names: set[str]) -> None:
        for name in names & self.away:
            self.turns[name] = max(self.turns[name], self.now + 1)
        self.away = self.away - names

    def pick(self, off: set[str], tried: set[str]) -> str | None:
        order = list(self.turns)
        for name in sorted(order, key=lambda one: (self.turns[one], order.index(one))):
            if name in self.away or name in tried:
                continue
            if name in off:
                self.away.add(name)
                continue
            self.now = max(self.now, self.turns[name])
            self.turns[name] += self.strides[name]
            return name
        return None


NAMES = "abcde"
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4), min_size=1)
STEPS = st.one_of(
    st.tuples(st.just("pick"), st.just(set[str]())),
    st.tuples(st.just("pick"), st.sets(st.sampled_from(NAMES), max_size=2)),
    st.tuples(st.just("off"), st.sets(st.sampled_from(NAMES), min_size=1)),
    st.tuples(st.just("back"), st.sets(st.sampled_from(NAMES), min_size=1)),
    st.tuples(st.just("edit"), WEIGHTS),
)


@given(st.lists(STEPS, max_size=40))
def test_round_robin_is_what_a_naive_one_is(steps: list[tuple[str, Any]]) -> None:
    fleet, naive = Fleet(), Naive()
    picker, members = PoolPicker(fleet), members_of("abc")
    pool, edited, back = pool_of(members), dict.fromkeys("abc", 1), set[str]()
    for kind, about in steps:
        if kind == "off":
            fleet.put_off(*about)
        elif kind == "back":
            back |= about & fleet.off.keys()
            fleet.bring_back(*about)
        elif kind == "edit":
            members, edited = members_of(about, about), about
            pool = pool_of(members)
        else:  # what happened before a pick shows at that
            naive.edit(edited) if edited else naive.back(back)
            edited, back = {}, set()
            tried = {egress(name).key for name in about}
            picked = picker.pick(pool, members, asked_by(), None, tried)
            expected = naive.pick({*fleet.off}, about)
            assert (picked.name if isinstance(picked, Egress) else None) == expected
