"""Whether a host is this machine. The system is asked each time, since addresses come and go."""

import errno
import socket
from ipaddress import ip_address
from typing import Final

from ..model.host import canonical_ip

_ANY_PORT: Final = 9  # discard, RFC 863
_NOT_OWN: Final = frozenset(
    {
        *(errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN),
        *(errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENODEV, errno.EAFNOSUPPORT),
    }
)
"""Errors of the system for an address that it cannot send to, which is none of its own."""


def is_own_host(host: str, hostname: str | None = None) -> bool:
    """Whether a canonical host is this machine, without a look-up.

    True for ``localhost`` and names below it (RFC 6761 section 6.3), the machine's ``hostname``
    (asked of the system by default), loopback, the unspecified address (systems connect it to
    themselves), and every address of an interface. True as well where the system cannot say.
    """
    literal = canonical_ip(host)
    if literal is None:
        own = (hostname or socket.gethostname()).lower().rstrip(".")
        names = {"localhost", own, own.partition(".")[0]}
        return host in names or host == f"{own}.local" or host.endswith(".localhost")
    address = ip_address(literal)
    return address.is_loopback or address.is_unspecified or _is_own_address(literal)


def _is_own_address(literal: str) -> bool:
    """Whether the system would send to an address from that very address: then it is its own.

    Connecting a datagram socket makes the system choose its address and sends nothing.
    """
    family = socket.AF_INET6 if ":" in literal else socket.AF_INET
    try:
        (found,) = socket.getaddrinfo(
            literal, _ANY_PORT, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
    except OSError:  # no such interface
        return False
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])
            return _unscoped(probe.getsockname()[0]) == _unscoped(literal)
    except OSError as error:
        return error.errno not in _NOT_OWN  # out of descriptors, for example: it may be its own


def _unscoped(address: str) -> str:
    return address.partition("%")[0]
