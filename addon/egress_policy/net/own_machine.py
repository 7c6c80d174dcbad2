"""Whether a host is this machine, asked of the system anew each time: addresses come and go."""

import socket
from ipaddress import ip_address

_ANY_PORT = 9  # discard, RFC 863


def is_own_host(host: str) -> bool:
    """Whether a canonical host is this machine, without a look-up.

    True for ``localhost`` and what is below it (RFC 6761 section 6.3), the machine's own name,
    loopback, the unspecified address (systems connect it to themselves), and every address that an
    interface has.
    """
    if ":" not in host and not host[-1:].isdigit():
        name = socket.gethostname().lower()
        return host in ("localhost", name, f"{name}.local") or host.endswith(".localhost")
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified or _is_ours(host)


def _is_ours(literal: str) -> bool:
    """The system answers from the address that was asked for if, and only if, it is its own.

    Connecting a datagram socket makes the system choose its address and sends nothing.
    """
    family = socket.AF_INET6 if ":" in literal else socket.AF_INET
    try:
        (found,) = socket.getaddrinfo(
            literal, _ANY_PORT, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])
            return _unscoped(probe.getsockname()[0]) == _unscoped(literal)
    except OSError:  # no such interface, or no way there
        return False


def _unscoped(address: str) -> str:
    return address.partition("%")[0]
