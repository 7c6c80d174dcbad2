"""Which member of a pool is taken: one function or class a strategy, and what they remember."""

from collections.abc import Callable, Mapping, Sequence

from ..errors import Reason, Unavailable
from ..model.decision import Egress
from ..model.rule import unavailable

Pick = Callable[[str, Sequence[Egress]], Egress]
"""Takes the name of the pool and its members, at least one."""


def pick_first(_pool: str, members: Sequence[Egress]) -> Egress:
    """Always the same: the first that is listed."""
    return members[0]


class RoundRobin:
    """Each member in its turn. A pool that changes goes on at the same position."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    def __call__(self, pool: str, members: Sequence[Egress]) -> Egress:
        position = self._positions.get(pool, 0) % len(members)
        self._positions[pool] = position + 1
        return members[position]


class PoolPicker:
    """Picks members; the positions of all pools live here and survive a change of the policy."""

    def __init__(self) -> None:
        self._strategies: Mapping[str, Pick] = {"first": pick_first, "round-robin": RoundRobin()}

    def pick(
        self, pool_name: str, members: Sequence[Egress], strategy: str, current: str | None = None
    ) -> Egress:
        """The member to take. ``current``, an ``Egress.key``, is kept while it is among them.

        Raises ``Unavailable``: ``POOL_EMPTY`` without members, ``DISABLED`` for a strategy that
        this version has not.
        """
        if not members:
            raise Unavailable(Reason.POOL_EMPTY, f"Pool {pool_name} has no usable member")
        if current is not None:
            for member in members:
                if member.key == current:
                    return member
        pick = self._strategies.get(strategy)
        if pick is None:
            raise Unavailable(Reason.DISABLED, f"Pool {pool_name}: {unavailable(strategy)}")
        return pick(pool_name, members)
