"""Picks a member of a pool: one function or class for each strategy, with what it remembers."""

from collections.abc import Callable, Mapping

from ..errors import Reason, Unavailable
from ..model.decision import Egress, Members
from ..model.rule import unavailable

Pick = Callable[[str, Members], Egress]
"""Takes the name of the pool and its members, at least one."""


def pick_first(_pool: str, members: Members) -> Egress:
    """Always take the member that is listed first."""
    return members[0]


class RoundRobin:
    """Take each member in its turn. A pool that changes goes on at the same position."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    def __call__(self, pool: str, members: Members) -> Egress:
        position = self._positions.get(pool, 0) % len(members)
        self._positions[pool] = position + 1
        return members[position]


class PoolPicker:
    """Picks members. It keeps the positions of all pools, which survive a change of the policy."""

    def __init__(self) -> None:
        self._strategies: Mapping[str, Pick] = {"first": pick_first, "round-robin": RoundRobin()}

    def pick(
        self, pool_name: str, members: Members, strategy: str, current: str | None = None
    ) -> Egress:
        """The member to take: that with the ``Egress.key`` ``current``, or else the next in turn.

        Raises ``Unavailable``: ``POOL_EMPTY`` without members, ``DISABLED`` for a strategy that
        this version lacks.
        """
        if not members:
            raise Unavailable(Reason.POOL_EMPTY, f"Pool {pool_name} has no usable member")
        if current is not None and (kept := members.by_key.get(current)):
            return kept
        pick = self._strategies.get(strategy)
        if pick is None:
            raise Unavailable(Reason.DISABLED, f"Pool {pool_name}: {unavailable(strategy)}")
        return pick(pool_name, members)
