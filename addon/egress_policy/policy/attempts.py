"""How the addresses of a host are tried: RFC 8305, "Happy Eyeballs", sections 4 and 5. Pure.

One after another, each a moment after the one before or as soon as that has failed; the first that
answers is used, and the others are given up. These limits hold for flows and for tests of a proxy.
"""

import errno
from collections.abc import Iterable
from itertools import zip_longest
from typing import Final

from ..model.host import detect_ip_literal_family

STAGGER = 0.25
"""Seconds from one attempt to the next while none has answered."""
AT_ONCE = 3
"""Attempts under way together: each has a file descriptor, of which a process has few."""
ADDRESS_TIMEOUT = 5.0
"""Seconds that one address may take to accept the connection."""
CONNECT_TIMEOUT = 15.0
"""Seconds within which attempts are started, and all of them end."""
HANDSHAKE_TIMEOUT = 10.0
"""Seconds from the accepted connection to the end of the proxy's handshake, TLS included."""

SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""What an attempt fails with that no other address could mend."""
SHORTAGE: Final = (
    "this process has no file descriptor left for a connection (Too many open files): "
    "raise its limit (ulimit -n)"
)


def interleave(addresses: Iterable[str]) -> tuple[str, ...]:
    """IP literals with their families in turns, beginning with that of the first; each family in
    the order it had."""
    families: dict[int | None, list[str]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(detect_ip_literal_family(address), []).append(address)
    turns = zip_longest(*families.values())
    return tuple(address for turn in turns for address in turn if address is not None)
