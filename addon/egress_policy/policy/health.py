"""Placeholder until the circuits are there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ..model.decision import Egress, Place, Refusal
from .hop import HopFailure, Outcome


@dataclass(frozen=True, slots=True)
class CircuitState:
    state: Literal["closed", "open", "half-open"] = "closed"
    retry_at: float | None = None
    since: float | None = None
    why: str = ""
    limited: bool = False
    trial: bool = False
    successes: int = 0
    failures: int = 0
    ewma: float | None = None
    last_failure: HopFailure | None = None


class Health:
    greets = False
    own_network = False

    def state(self, egress: Egress) -> CircuitState:
        return CircuitState()

    def reset(self, hop_key: str) -> bool:
        return False

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
