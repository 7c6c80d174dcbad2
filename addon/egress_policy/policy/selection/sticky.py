"""The strategy ``sticky``: a key goes to the same member, in every process that has the pool."""

import math
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from itertools import compress
from typing import Final, override

from .leases import Leases
from .roster import Roster, Strategy

type _Group = tuple[int, list[int], list[int]]
"""A weight, the numbers of the members that have it, and a hash for each."""
_MASK: Final = (1 << 64) - 1
_FACTOR: Final = 0xBF58476D1CE4E5B9
_OTHER_FACTOR: Final = 0x94D049BB133111EB


class Rendezvous:
    """Weighted rendezvous hashing: each member has a score for a key, and the best one gets it.

    A score depends on the seed, the key, and the member's name and weight alone, so it is the same
    in every process and on every machine, and without a member only its own keys go elsewhere.
    (Thaler and Ravishankar, 1998; weights as in Schindelhauer and Schomaker, 2005.)
    """

    def __init__(self, names: Sequence[str], weights: Sequence[int], seed: int | None) -> None:
        self._seed = "" if seed is None else str(seed)
        by_weight: dict[int, list[int]] = {}
        for number, weight in enumerate(weights):
            by_weight.setdefault(weight, []).append(number)
        self._groups: list[_Group] = [
            (weight, numbers, [_hash(names[number]) for number in numbers])
            for weight, numbers in by_weight.items()
        ]

    def best(self, key: str, out: Collection[int]) -> int | None:
        """The number of the member with the best score that is not in ``out``."""
        # Within a weight the greater hash has the better score, so few scores are worked out.
        found = []
        for weight, numbers, hashes in self._hashed(key, out):
            greatest = max(hashes)
            found.append((_score(greatest, weight), numbers[hashes.index(greatest)]))
        return max(found)[1] if found else None

    def _hashed(self, key: str, out: Collection[int]) -> Iterator[_Group]:
        """The groups without the members in ``out``, each name hashed with the key."""
        # With the factors of SplitMix64. Its last steps are left out, which mix the lower bits.
        of_key, mask, factor, other = _hash(f"{self._seed}\0{key}"), _MASK, _FACTOR, _OTHER_FACTOR
        for weight, all_numbers, all_hashes in self._groups:
            numbers, hashes = all_numbers, all_hashes
            if out:
                here = [number not in out for number in numbers]
                numbers, hashes = [*compress(numbers, here)], [*compress(hashes, here)]
            if numbers:
                once = [((of_key ^ of_name) * factor) & mask for of_name in hashes]
                yield weight, numbers, [((one ^ one >> 32) * other) & mask for one in once]


class Sticky(Strategy):
    """The member that the key has by its lease, else the best one by rendezvous.

    A key whose member is away or has failed moves, and stays where it went. Where the target may
    have failed instead, the key is lent another member and keeps its own.
    """

    def __init__(self, roster: Roster, seed: int | None, leases: Leases) -> None:
        super().__init__(roster)
        self.leases = leases
        self._rendezvous = Rendezvous(roster.names, roster.weights, seed)

    @override
    def choose(self, skip: Collection[int], key: str, in_doubt: Collection[int] = ()) -> int | None:
        leases, roster = self.leases, self._roster
        now, digest = leases.clock(), leases.digest(key)
        if lease := leases.find(digest, now):
            own = roster.number_of.get(lease.member)
            is_kept = own is not None and (own not in skip or own in in_doubt)
            if own is not None and is_kept and self._is_here(own):
                leases.use(digest, lease, now)
                return self._best(key, skip) if own in skip else own
        number = self._best(key, skip)
        if number is not None:
            leases.make(digest, roster.names[number], now)
        return number

    @override
    def take_back(self, number: int) -> None:
        """Nothing has to be done: the roster knows who is away."""

    @override
    def keeps(self, number: int, key: str) -> bool:
        """A connection is kept for the key that has the member, not for another key that shares
        the client's connection."""
        now, digest = self.leases.clock(), self.leases.digest(key)
        lease = self.leases.find(digest, now)
        if lease is None or lease.member != self._roster.names[number]:
            return False
        self.leases.use(digest, lease, now)
        return True

    def _is_here(self, number: int) -> bool:
        return number not in self._roster.away and self._roster.is_available(number)

    def _best(self, key: str, skip: Collection[int]) -> int | None:
        roster, best = self._roster, self._rendezvous.best
        away, size = roster.away, len(roster.names)
        if len(away) == size:
            return None
        number = best(key, {*away, *skip} if away or skip else ())
        if number is None or roster.is_available(number):
            return number
        # Where one is newly away more may be, and each would cost such a look at all members.
        for one in range(size):
            if one not in away:
                roster.is_available(one)
        return best(key, {*away, *skip})


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _score(hash_: int, weight: int) -> float:
    """The greater the better: ln(u) / weight, with u in (0, 1] from the upper 53 bits."""
    return math.log1p(-((_MASK - hash_) >> 11) / (1 << 53)) / weight
