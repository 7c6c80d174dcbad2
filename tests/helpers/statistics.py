"""Whether counts fit the shares that are expected, by Pearson's chi-square test."""

from collections.abc import Mapping
from typing import Final

_CRITICAL: Final = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 6: 22.46, 7: 24.32, 9: 27.88}
"""By degrees of freedom: what chance exceeds once in a thousand times."""


def fits(counts: Mapping[str, int], weights: Mapping[str, float]) -> bool:
    """Whether counts in proportion to these weights come out like this with p > 0.001."""
    assert counts.keys() <= weights.keys()
    share = sum(counts.values()) / sum(weights.values())
    off = (
        (counts.get(name, 0) - share * one) ** 2 / (share * one) for name, one in weights.items()
    )
    return sum(off) < _CRITICAL[len(weights) - 1]
