"""Cuts a byte string at arbitrary places, for parsers whose result must not depend on them."""

import itertools
from collections.abc import Iterable


def pieces(data: bytes, cuts: Iterable[int] = ()) -> list[bytes]:
    """`data` cut at the given places (taken modulo its length), empty pieces included."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]
