"""Whose fault a failure on the way to a target is, and what follows from it. One pure table.

Only the proxy's own faults count against it. Another member of a pool is tried where that can
help, and where no target may have seen the request.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from ..model.decision import Fault


class Cause(Enum):
    """What a failure was about."""

    OWN = auto()
    """This machine could not even try: no descriptor, no memory, no permission."""
    NO_ROUTE = auto()
    """This machine has no way to that address, as to IPv6 where it has none. To the address of
    another member it may have one."""
    NO_ANSWER = auto()
    """No packet came back from the proxy's address, so its network or ours may be to blame."""
    REFUSED = auto()
    """The proxy's machine turned the connection down or reset it."""
    SILENT = auto()
    """The proxy accepted the connection, and said nothing before it knew the target. Its network or
    ours may be to blame."""
    BROKEN = auto()
    """The proxy broke off, did not speak its protocol, or failed by its own word."""
    CREDENTIALS = auto()
    LIMITED = auto()
    """The proxy serves too much now (429, 503)."""
    FULL = auto()
    """Our own limit for the proxy is reached."""
    FORBIDDEN = auto()
    """The proxy's rules forbid this target."""
    UNDECIDED = auto()
    """The proxy may have failed, or the target behind it."""
    TARGET = auto()
    NOBODY = auto()
    """The client left, the policy changed, or the policy itself forbids the connection."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """``counts``: it is evidence against the proxy. ``fails_over``: another member may be tried."""

    fault: Fault
    counts: bool
    fails_over: bool


JUDGEMENTS: Final[Mapping[Cause, Judgement]] = MappingProxyType(
    {
        Cause.OWN: Judgement("own", counts=False, fails_over=False),
        Cause.NO_ROUTE: Judgement("own", counts=False, fails_over=True),
        Cause.NO_ANSWER: Judgement("proxy", counts=True, fails_over=True),
        Cause.REFUSED: Judgement("proxy", counts=True, fails_over=True),
        Cause.SILENT: Judgement("proxy", counts=True, fails_over=True),
        Cause.BROKEN: Judgement("proxy", counts=True, fails_over=True),
        Cause.CREDENTIALS: Judgement("proxy", counts=True, fails_over=True),
        Cause.LIMITED: Judgement("proxy", counts=False, fails_over=True),
        Cause.FULL: Judgement("", counts=False, fails_over=True),
        Cause.FORBIDDEN: Judgement("proxy", counts=False, fails_over=False),
        Cause.UNDECIDED: Judgement("undecided", counts=False, fails_over=True),
        Cause.TARGET: Judgement("target", counts=False, fails_over=False),
        Cause.NOBODY: Judgement("", counts=False, fails_over=False),
    }
)

_PROXY_ERRORS: Final[Mapping[str, Cause]] = MappingProxyType(
    {
        "proxy_internal_error": Cause.BROKEN,
        "proxy_configuration_error": Cause.BROKEN,
        "proxy_loop_detected": Cause.BROKEN,
        "connection_limit_reached": Cause.LIMITED,
        "destination_ip_prohibited": Cause.FORBIDDEN,
        "http_request_denied": Cause.FORBIDDEN,
        "dns_error": Cause.TARGET,
        "destination_not_found": Cause.TARGET,
        "connection_refused": Cause.TARGET,
        "connection_terminated": Cause.TARGET,
    }
)
"""Error types that decide. A timeout, or no way to the target, may be the fault of either."""
_ABOUT_A_TARGET: Final = frozenset({404, 408, 410, 500, 502, 503, 504, *range(520, 600)})
"""Statuses that proxies answer with when they cannot reach a target. Those from 520 on are in no
standard, and are used by providers of proxies."""
_NO_ANSWER: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN})
_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
)
_THEIRS: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})


def of_errno(number: int | None) -> Cause:
    """The cause of an attempt to connect that failed with this error of the system.

    Every error that names no answer of the other side is our own, as is one without a number.
    """
    if number in _THEIRS:
        return Cause.REFUSED
    if number in _NO_ROUTE:
        return Cause.NO_ROUTE
    return Cause.NO_ANSWER if number in _NO_ANSWER else Cause.OWN


def of_connect_status(status: int, *, pause: bool = False, error: str = "") -> Cause:
    """The cause of an answer to CONNECT that opens no tunnel; 0 for something else than an answer.

    ``pause``: it says when to ask again. ``error`` is its error type in Proxy-Status (RFC 9209
    section 2.3). RFC 9110 sections 15.5 and 15.6, RFC 6585 section 4, RFC 7725 section 3.

    Proxies answer with any status of a server when their target is dead: tinyproxy with 500, squid
    with 500 and 503. Such a status alone says nothing about the proxy.
    """
    if status >= 500 and error in _PROXY_ERRORS:
        return _PROXY_ERRORS[error]
    match status:
        case 407:
            return Cause.CREDENTIALS
        case 429:
            return Cause.LIMITED
        case 403 | 405 | 451:
            return Cause.FORBIDDEN
        case 503 if pause:
            return Cause.LIMITED
    return Cause.UNDECIDED if status in _ABOUT_A_TARGET else Cause.BROKEN


def of_socks_reply(code: int) -> Cause:
    """The cause of a reply that opens no tunnel (RFC 1928 section 6)."""
    match code:
        case 0x01 | 0x03 | 0x06:
            return Cause.UNDECIDED
        case 0x02:
            return Cause.FORBIDDEN
        case 0x04 | 0x05:
            return Cause.TARGET
    return Cause.BROKEN
