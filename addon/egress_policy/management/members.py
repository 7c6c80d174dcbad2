"""The members of a pool, and which of its keys have which member: what picks go by, for people."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import NotFound
from ..log import get_logger
from ..model.pool import Member, Pool
from ..model.proxy import Proxy
from ..policy.selection import PoolPicker
from ..sentence import Sentence
from .exit_views import ProxyExits
from .in_force import PolicyInForce
from .merge import STATED_TWICE
from .pools import Pools, PoolView
from .states import STATES, State, States, StateView
from .views import Paged, PageInfo, Spoken, View

logger = get_logger(__name__)

_IN_USE: Final[frozenset[State]] = frozenset({"closed", "half-open"})
"""The states in which a member is picked, if only for a trial."""


class MemberView(StateView):
    """A member of a pool. ``status`` is the person's word about the proxy, ``state`` how it fares.

    ``picks`` counts how often it was picked since the pool is in use, ``share`` is its part of them
    (``None`` before the first). ``expected_share`` is what the weights give among the members that
    are picked now; least-connections and latency are meant to deviate from it. ``exits`` has the
    addresses that targets saw.
    """

    proxy: str
    status: str
    weight: int
    picks: int
    share: float | None
    expected_share: float
    exits: ProxyExits | None = None


class MembersView(Paged, Spoken):
    """The members of a pool in their order. ``states`` counts all of them. ``problem`` says why
    nothing leaves by this pool. ``own_network``: our own network seems to be down."""

    pool: str
    strategy: str
    problem: str = ""
    own_network: bool
    states: dict[str, int]
    items: tuple[MemberView, ...]


class LeaseView(View):
    """A key of a sticky pool, as a digest of this process, and the member that it has. In seconds
    since when, and in how long the lease ends unless it is used."""

    key: str
    member: str
    age_s: float
    expires_in_s: float


class LeasesView(Paged):
    """The leases of a pool, the one used last first. ``members`` counts all of them by member. A
    pool that is not sticky has none."""

    pool: str
    strategy: str
    sticky_by: str
    sticky_minutes: int
    members: dict[str, int]
    items: tuple[LeaseView, ...]


class ForgottenLeases(View):
    """How many leases a pool had."""

    pool: str
    forgotten: int


class PoolMembers:
    """For the loop only. A key is the id or the name of a pool; methods raise ``NotFound``."""

    def __init__(
        self,
        in_force: PolicyInForce,
        pools: Pools,
        states: States,
        picker: PoolPicker,
        exits_of: Callable[[Proxy], ProxyExits],
    ) -> None:
        self._in_force, self._pools, self._states = in_force, pools, states
        self._picker, self._exits_of = picker, exits_of

    def list(self, key: str, *, limit: int = 50, offset: int = 0, state: str = "") -> MembersView:
        """The members, or those in a ``state``."""
        entry, pool = self._find(key)
        members = pool.members if pool else entry.members
        words = self._states.words(member.name for member in members)
        numbers = [n for n, word in enumerate(words) if state in ("", word)]
        picks = self._picker.shares(entry.name) if pool else {}
        expected = expected_shares(members, [word in _IN_USE for word in words], entry.strategy)
        total = sum(picks.values())
        counts = Counter(words)
        return MembersView(
            pool=entry.name,
            strategy=entry.strategy,
            problem="" if pool else self._problem(entry),
            own_network=self._states.own_network,
            states={word: counts[word] for word in STATES if counts[word]},
            items=tuple(
                self._member(members[n], picks.get(members[n].name, 0), total, expected[n])
                for n in numbers[offset : offset + limit]
            ),
            page=PageInfo(limit=limit, offset=offset, total=len(numbers)),
        )

    def leases(self, key: str, *, limit: int = 50, offset: int = 0) -> LeasesView:
        """Which keys have which member."""
        entry, pool = self._find(key)
        members = Counter(self._picker.leases_by_member(entry.name) if pool else ())
        rows = self._picker.leases(entry.name, offset + limit)[offset:] if pool else []
        return LeasesView(
            pool=entry.name,
            strategy=entry.strategy,
            sticky_by=entry.sticky_by,
            sticky_minutes=entry.sticky_minutes,
            members=dict(members.most_common()),
            items=tuple(
                LeaseView(
                    key=row.key,
                    member=row.member,
                    age_s=round(row.age, 1),
                    expires_in_s=round(row.expires, 1),
                )
                for row in rows
            ),
            page=PageInfo(limit=limit, offset=offset, total=members.total()),
        )

    def forget_leases(self, key: str) -> ForgottenLeases:
        """Let all keys be dealt out anew, as a person asks for."""
        entry, pool = self._find(key)
        if pool is None:
            raise NotFound(
                Sentence(
                    "pool_not_in_use",
                    "Pool {name} is not in use: {why}",
                    name=entry.name,
                    why=self._problem(entry),
                )
            )
        forgotten = self._picker.forget_leases(entry.name)
        logger.info(f"Egress: pool {entry.name}: a person let {forgotten} leases be forgotten")
        return ForgottenLeases(pool=entry.name, forgotten=forgotten)

    def _find(self, key: str) -> tuple[PoolView, Pool | None]:
        """A pool as it is listed, and as it is in force; ``None`` if it is not."""
        entry = self._pools.row(key).view()
        is_shadowed = entry.source == "registry" and self._is_filed(entry.name)
        pool = None if is_shadowed else self._in_force.snapshot.pools.get(entry.name)
        return entry, pool

    def _is_filed(self, name: str) -> bool:
        filed = self._in_force.filed
        names = [one.name for one in filed.pools] + [one.name for one in filed.proxies]
        return name in names

    def _problem(self, entry: PoolView) -> str:
        shadowed = STATED_TWICE if self._is_filed(entry.name) and entry.source != "file" else ""
        return (
            entry.problem
            or self._in_force.problem
            or shadowed
            or Sentence("not_in_force_yet", "it is not in force yet")
        )

    def _member(self, member: Member, picks: int, total: int, expected: float) -> MemberView:
        proxy = self._in_force.snapshot.proxies.get(member.name)
        return MemberView(
            proxy=member.name,
            status=proxy.status if proxy else "",
            weight=member.weight,
            picks=picks,
            share=round(picks / total, 4) if total else None,
            expected_share=round(expected, 4),
            exits=self._exits_of(proxy) if proxy else None,
            **dict(self._states.of(member.name)),
        )


def expected_shares(
    members: Sequence[Member], in_use: Sequence[bool], strategy: str
) -> Sequence[float]:
    """The part of the picks that each member gets by its weight among those ``in_use``. By the
    strategy ``first`` all go to the first of them."""
    weights = [member.weight if used else 0 for member, used in zip(members, in_use, strict=True)]
    if strategy == "first":
        first = next((n for n, weight in enumerate(weights) if weight), None)
        return [float(n == first) for n in range(len(members))]
    total = sum(weights) or 1
    return [weight / total for weight in weights]
