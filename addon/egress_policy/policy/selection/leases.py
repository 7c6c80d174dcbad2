"""Which member the keys of a sticky pool have, and since when.

The keys may be names of people, so they are kept as digests that differ from process to process.
"""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final

MOST: Final = 65_536
"""Leases that a pool keeps. The one that was not used for the longest time goes first."""
_PROCESS_KEY = secrets.token_bytes(16)


@dataclass(slots=True)
class Lease:
    """A key has a member, by name. Times are of the monotonic clock, in seconds."""

    member: str
    since: float
    used: float


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease for people: the digest of its key, the member, and in seconds how long it has been
    there and in how long it ends unless it is used."""

    key: str
    member: str
    age: float
    expires: float


class Leases:
    """The leases of a pool. Each ends ``span`` seconds after its last use."""

    def __init__(self, clock: Callable[[], float], span: float) -> None:
        self.clock = clock
        self.span = span
        self._by_key: OrderedDict[bytes, Lease] = OrderedDict()

    def __len__(self) -> int:
        """How many there are that have not ended."""
        self._let_go(self.clock())
        return len(self._by_key)

    @staticmethod
    def digest(key: str) -> bytes:
        text = key.encode("utf-8", "surrogatepass")
        return blake2s(text, digest_size=8, key=_PROCESS_KEY).digest()

    def find(self, digest: bytes, now: float) -> Lease | None:
        """The lease of a key that has not ended."""
        lease = self._by_key.get(digest)
        return lease if lease and lease.used + self.span > now else None

    def use(self, digest: bytes, lease: Lease, now: float) -> None:
        lease.used = now
        self._by_key.move_to_end(digest)

    def make(self, digest: bytes, member: str, now: float) -> None:
        """Lease a member to a key, in place of the one that it had."""
        self._by_key[digest] = Lease(member, now, now)
        self._by_key.move_to_end(digest)
        if len(self._by_key) > MOST:
            self._by_key.popitem(last=False)
        self._let_go(now)

    def _let_go(self, now: float) -> None:
        """Drop the leases that have ended: those that were not used for the longest time."""
        leases = self._by_key
        while leases and next(iter(leases.values())).used + self.span <= now:
            leases.popitem(last=False)

    def clear(self) -> None:
        self._by_key.clear()

    def rows(self) -> Iterator[LeaseRow]:
        """Those that have not ended, the one used last first."""
        now = self.clock()
        self._let_go(now)
        for digest, lease in reversed(self._by_key.items()):
            ends = lease.used + self.span
            yield LeaseRow(digest.hex(), lease.member, now - lease.since, ends - now)

    def by_member(self) -> Counter[str]:
        """How many of those that have not ended each member has."""
        self._let_go(self.clock())
        return Counter(lease.member for lease in self._by_key.values())
