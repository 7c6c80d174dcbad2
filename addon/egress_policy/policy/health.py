"""Placeholder until the circuits are there."""

from collections.abc import Callable, Iterable

from ..model.decision import Egress, Place, Refusal
from .hop import Outcome


class Health:
    greets = False

    def is_available(self, egress: Egress) -> bool:
        return True

    def refusal(self, egress: Egress) -> Refusal | None:
        return None

    def cost(self, egress: Egress) -> float | None:
        return None

    def returned(self, since: int) -> tuple[int, Iterable[str] | None]:
        return since, ()

    def report(
        self, egress: Egress, target: Place, pool: str, outcome: Outcome, *, reused: bool = False
    ) -> None: ...

    def taken(self, egress: Egress) -> None: ...

    def keep(self, is_known: Callable[[Egress], bool]) -> None: ...
