"""The pools in use: for each its strategy, and how often each member was picked."""

import time
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from random import Random

from ...errors import Reason
from ...model.decision import Egress, Members, Refusal, Target
from ...model.pool import Pool
from ...sentence import Sentence
from ..condition import AlwaysAvailable, Condition
from ..fail_closed import fail_closed
from .by_chance import ByWeight, Latency, LeastConnections
from .in_order import First, RoundRobin
from .leases import LeaseRow, Leases
from .roster import Roster, Strategy
from .sticky import Sticky

StickyKey = Callable[[str, Target], str | None]
"""What ``sticky_by`` finds at a target: empty where the target has no such thing, ``None`` where
only the request can tell."""


def by_client(_by: str, target: Target) -> str | None:
    return target.client


class _PoolInUse:
    """A pool with these members, as far as nobody edits it."""

    def __init__(
        self, pool: Pool, roster: Roster, strategy: Strategy, random: Random, counts: list[int]
    ) -> None:
        self.pool = pool
        self.roster = roster
        self.strategy = strategy
        self.random = random
        self.counts = counts
        self._alike = {id(roster.members): roster.members}

    def takes(self, pool: Pool, members: Members) -> bool:
        """Whether this is still the pool; its members may have another target family."""
        if pool is not self.pool:
            return False
        if members is not self.roster.members:
            if id(members) not in self._alike:
                if not self.roster.is_same(members):
                    return False
                self._alike[id(members)] = members  # kept, so that nothing else gets its id
            self.roster.members = members
        return True

    def numbers(self, members: Members, keys: Collection[str]) -> Collection[int]:
        """The members with these keys, as far as there are any."""
        found = (members.by_key.get(key) for key in keys)
        return {self.roster.number_of[member.name] for member in found if member}


class PoolPicker:
    """Picks members. What the strategies remember survives a change of the policy.

    With a ``seed`` a pool has a randomness of its own, otherwise all share ``random``.
    """

    def __init__(
        self,
        condition: Condition | None = None,
        sticky_key: StickyKey = by_client,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._condition = condition or AlwaysAvailable()
        self.sticky_key = sticky_key
        self._random = random or Random()  # noqa: S311 (no secret)
        self._clock = clock
        self._pools: dict[str, _PoolInUse] = {}

    def pick(
        self,
        pool: Pool,
        members: Members,
        target: Target,
        taken: str | None = None,
        tried: Collection[str] = (),
        in_doubt: Collection[str] = (),
    ) -> Egress | Refusal | None:
        """The member to take: that with the ``Egress.key`` ``taken``, or else one that the
        strategy picks among those that are available and whose key is not in ``tried``.

        A member of a sticky pool is kept only for the key that has it, and its key moves if it was
        tried, unless it is ``in_doubt``: it may have done nothing wrong. ``None`` where the pick
        needs the request, which ``target`` lacks.
        """
        if not members:
            return _no_member(pool, target)
        used = self._pools.get(pool.name)
        if used is None or not used.takes(pool, members):
            used = self._pools[pool.name] = self._begin(pool, members, used)
        key = ""
        if pool.strategy == "sticky":
            found = self.sticky_key(pool.sticky_by, target)
            if not found:
                return None if found is None else _no_key(pool, target)
            key = found
        roster, strategy = used.roster, used.strategy
        kept = members.by_key.get(taken) if taken is not None and taken not in tried else None
        if kept and strategy.keeps(roster.number_of[kept.name], key):
            return kept
        for number in roster.returned():
            strategy.take_back(number)
        skip: Collection[int] = ()
        if tried:
            skip = used.numbers(members, tried)
            picked = strategy.choose(skip, key, used.numbers(members, in_doubt))
        else:
            picked = strategy.choose((), key)
        if picked is None:
            return roster.refusal(pool.name, target.host, skip)
        used.counts[picked] += 1
        return members[picked]

    def keep(self, names: Collection[str]) -> None:
        """Forget all pools but these."""
        self._pools = {name: used for name, used in self._pools.items() if name in names}

    # -- for people

    def shares(self, pool: str) -> Mapping[str, int]:
        """How often each member of a pool was picked since it is in use."""
        used = self._pools.get(pool)
        return dict(zip(used.roster.names, used.counts, strict=True)) if used else {}

    def leases(self, pool: str, limit: int | None = None) -> list[LeaseRow]:
        """The leases of a sticky pool, the one used last first; at most ``limit``."""
        leases = self._leases(pool)
        return list(islice(leases.rows(), limit)) if leases is not None else []

    def leases_by_member(self, pool: str) -> Mapping[str, int]:
        """How many leases each member of a sticky pool has."""
        leases = self._leases(pool)
        return leases.by_member() if leases is not None else {}

    def lease_count(self, pool: str) -> int:
        """How many leases a pool has."""
        leases = self._leases(pool)
        return len(leases) if leases is not None else 0

    def forget_leases(self, pool: str) -> int:
        """Let all keys of a pool be dealt out anew. Returns how many leases there were."""
        count, leases = self.lease_count(pool), self._leases(pool)
        if leases is not None:
            leases.clear()
        return count

    def _leases(self, pool: str) -> Leases | None:
        used = self._pools.get(pool)
        return used.strategy.leases if used and isinstance(used.strategy, Sticky) else None

    # -- edits

    def _begin(self, pool: Pool, members: Members, before: _PoolInUse | None) -> _PoolInUse:
        """Use a pool, with what is remembered of it from before an edit."""
        counts = self.shares(pool.name)
        random = self._random
        if pool.seed is not None:
            same = before is not None and before.pool.seed == pool.seed
            random = before.random if before and same else Random(pool.seed)  # noqa: S311 (no secret)
        roster = Roster(members, self._condition, self._clock)
        strategy = self._strategy(pool, roster, random, before)
        return _PoolInUse(
            pool, roster, strategy, random, [counts.get(name, 0) for name in roster.names]
        )

    def _strategy(
        self, pool: Pool, roster: Roster, random: Random, before: _PoolInUse | None
    ) -> Strategy:
        old = before.strategy if before else None
        match pool.strategy:
            case "first":
                return First(roster)
            case "round-robin":
                return RoundRobin(
                    roster, *(old.remembered() if isinstance(old, RoundRobin) else ())
                )
            case "random":
                return ByWeight(roster, random)
            case "least-connections":
                return LeastConnections(roster, random)
            case "latency":
                return Latency(roster, random)
            case "sticky":
                leases = Leases(self._clock, 0)
                if before and isinstance(old, Sticky) and _has_same_keys(before.pool, pool):
                    leases = old.leases
                leases.span = pool.sticky_minutes * 60
                return Sticky(roster, pool.seed, leases)


def _has_same_keys(one: Pool, other: Pool) -> bool:
    return (one.sticky_by, one.seed) == (other.sticky_by, other.seed)


def _no_member(pool: Pool, target: Target) -> Refusal:
    why = Sentence("pool_without_member", "Pool {name} has no usable member", name=pool.name)
    detail = fail_closed(why)
    return Refusal(Reason.POOL_EMPTY, detail, host=target.host)


def _no_key(pool: Pool, target: Target) -> Refusal:
    """A pool that is sticky by something that the target does not have."""
    kind, _, name = pool.sticky_by.partition(":")
    what = f"header {name}" if name else kind
    lacks = "Pool {name} is sticky by {key}, which this request lacks"
    detail = fail_closed(Sentence("pool_without_key", lacks, name=pool.name, key=what))
    return Refusal(Reason.RULE, detail, host=target.host)
