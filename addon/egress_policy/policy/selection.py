"""Picks a member of a pool: one class for each strategy, with what it remembers."""

from collections.abc import Callable, Collection

from ..errors import Reason
from ..model.decision import Egress, Members, Refusal, Target
from ..model.pool import Pool
from .condition import AlwaysAvailable, Condition

StickyKey = Callable[[str, Target], str | None]
"""What ``sticky_by`` finds at a target: empty where the target has no such thing, ``None`` where
only the request can tell."""


def by_client(_by: str, target: Target) -> str | None:
    return target.client


class PoolPicker:
    """Picks members. What the strategies remember survives a change of the policy."""

    def __init__(
        self, condition: Condition | None = None, sticky_key: StickyKey = by_client
    ) -> None:
        self._condition = condition or AlwaysAvailable()
        self.sticky_key = sticky_key
        self._positions: dict[str, int] = {}

    def pick(
        self,
        pool: Pool,
        members: Members,
        target: Target,
        taken: str | None = None,
        tried: Collection[str] = (),
    ) -> Egress | Refusal | None:
        """The member to take: that with the ``Egress.key`` ``taken``, or else one that the
        strategy picks among those that are available and whose key is not in ``tried``.

        ``None`` where the pick needs the request, which ``target`` lacks.
        """
        if not members:
            return Refusal(Reason.POOL_EMPTY, f"Pool {pool.name} has no usable member")
        if taken is not None and taken not in tried and (kept := members.by_key.get(taken)):
            return kept
        left = [
            one for one in members if one.key not in tried and self._condition.is_available(one)
        ]
        if not left:
            return Refusal(Reason.CIRCUIT_OPEN, f"Pool {pool.name}: no member is available")
        position = 0
        if pool.strategy != "first":
            position = self._positions.get(pool.name, 0) % len(left)
            self._positions[pool.name] = position + 1
        return left[position]
