"""What picks and refusals depend on beside the policy: how each egress fares now."""

from collections.abc import Iterable
from typing import Protocol

from ..model.decision import Egress, Refusal


class Condition(Protocol):
    """The state of the egresses at this moment. Keys are those of ``Egress.hop_key``."""

    def is_available(self, egress: Egress) -> bool:
        """Whether its circuit lets a connection through, it is not full, and its exit is the
        expected one."""

    def refusal(self, egress: Egress) -> Refusal | None:
        """Why it is not available; ``retry_after`` says when it may be."""

    def active(self, egress: Egress) -> int:
        """How many connections it has."""

    def cost(self, egress: Egress) -> float | None:
        """What the hop costs in seconds, ``None`` if that is not known yet."""

    def returned(self, since: int) -> tuple[int, Iterable[str] | None]:
        """The keys that have become available since the position ``since`` (0 at first), by an
        event or by the passage of time, and the new position, which is another one if there are
        keys. ``None`` instead of keys where there were too many to keep."""


class AlwaysAvailable:
    """The condition where nothing is known: every egress is available."""

    def is_available(self, egress: Egress) -> bool:  # noqa: ARG002
        return True

    def refusal(self, egress: Egress) -> Refusal | None:  # noqa: ARG002
        return None

    def active(self, egress: Egress) -> int:  # noqa: ARG002
        return 0

    def cost(self, egress: Egress) -> float | None:  # noqa: ARG002
        return None

    def returned(self, since: int) -> tuple[int, Iterable[str] | None]:
        return since, ()
