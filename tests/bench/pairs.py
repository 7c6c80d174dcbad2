"""Paired results: both sides measured in turn (ABBA), so that what disturbs one disturbs both.

What counts is the median of the pairs' ratios.
"""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Pair:
    """What one pair gave: ours and theirs."""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


@dataclass(frozen=True)
class Aim:
    """What the ratio, or ours alone, should be: at least or at most a value."""

    of: Literal["ratio", "ours"]
    sense: Literal[">=", "<="]
    value: float

    def __str__(self) -> str:
        return f"{'' if self.of == 'ratio' else 'ours '}{self.sense} {self.value:.6g}"


@dataclass(frozen=True)
class Row:
    """One line of the table: what is measured, in which unit, and what should come of it."""

    what: str
    unit: str
    pairs: tuple[Pair, ...]
    aims: tuple[Aim, ...] = ()

    @property
    def ours(self) -> float:
        return statistics.median(pair.ours for pair in self.pairs)

    @property
    def theirs(self) -> float:
        return statistics.median(pair.theirs for pair in self.pairs)

    @property
    def ratio(self) -> float:
        return statistics.median(pair.ratio for pair in self.pairs)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which the middle half of the ratios lies: the noise."""
        first, _, third = statistics.quantiles(pair.ratio for pair in self.pairs)
        return first, third

    def meets(self, aim: Aim) -> bool:
        value = self.ratio if aim.of == "ratio" else self.ours
        return value >= aim.value if aim.sense == ">=" else value <= aim.value

    def as_json(self) -> dict[str, object]:
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratio": self.ratio,
            "ratio_quartiles": self.quartiles,
            "aims": [{**asdict(aim), "met": self.meets(aim)} for aim in self.aims],
            "pairs": [asdict(pair) for pair in self.pairs],
        }


def row(what: str, unit: str, pairs: Iterable[tuple[float, float]], *aims: Aim) -> Row:
    return Row(what, unit, tuple(Pair(*pair) for pair in pairs), aims)
