"""What can go wrong, as stable words: the reasons of a refusal, their codes, and one error root.

A *reason* is the finer word (``no_record``); every reason belongs to exactly one *code*
(``PROXY_FAMILY_UNAVAILABLE``), which is what a client sees in ``x-egress-error``.
This module imports nothing of the package.
"""

from enum import StrEnum


class Code(StrEnum):
    """The stable codes a refusal is answered with."""

    FAMILY_UNAVAILABLE = "PROXY_FAMILY_UNAVAILABLE"
    UNREACHABLE = "PROXY_UNREACHABLE"
    ASSIGNED_UNAVAILABLE = "PROXY_ASSIGNED_UNAVAILABLE"
    REFUSED = "EGRESS_REFUSED"
    INTERNAL = "EGRESS_INTERNAL"


class Reason(StrEnum):
    """Why a flow was refused."""

    NO_RECORD = "no_record"
    DNS_FAILURE = "dns_failure"
    DNS_TIMEOUT = "dns_timeout"
    LITERAL_CONTRADICTION = "literal_contradiction"
    MAPPED_ADDRESS = "mapped_address"
    PEER_MISMATCH = "peer_mismatch"

    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CIRCUIT_OPEN = "circuit_open"
    HANDSHAKE_FAILED = "handshake_failed"
    PROXY_AUTH = "proxy_auth"

    DISABLED = "disabled"
    DELETED = "deleted"
    POOL_EMPTY = "pool_empty"
    SOCKS5_DISABLED = "socks5_disabled"

    RULE = "rule"
    DEFAULT = "default"
    UDP_OVER_PROXY = "udp_over_proxy"
    LOOP = "loop"

    ERROR = "error"

    @property
    def code(self) -> Code:
        """The code this reason is reported under."""
        return _CODES[self]


_CODES: dict[Reason, Code] = {
    **dict.fromkeys(
        (
            Reason.NO_RECORD,
            Reason.DNS_FAILURE,
            Reason.DNS_TIMEOUT,
            Reason.LITERAL_CONTRADICTION,
            Reason.MAPPED_ADDRESS,
            Reason.PEER_MISMATCH,
        ),
        Code.FAMILY_UNAVAILABLE,
    ),
    **dict.fromkeys(
        (
            Reason.CONNECT_REFUSED,
            Reason.CONNECT_TIMEOUT,
            Reason.CIRCUIT_OPEN,
            Reason.HANDSHAKE_FAILED,
            Reason.PROXY_AUTH,
        ),
        Code.UNREACHABLE,
    ),
    **dict.fromkeys(
        (Reason.DISABLED, Reason.DELETED, Reason.POOL_EMPTY, Reason.SOCKS5_DISABLED),
        Code.ASSIGNED_UNAVAILABLE,
    ),
    **dict.fromkeys(
        (Reason.RULE, Reason.DEFAULT, Reason.UDP_OVER_PROXY, Reason.LOOP), Code.REFUSED
    ),
    Reason.ERROR: Code.INTERNAL,
}


class EgressError(Exception):
    """An egress that cannot be had. ``str()`` is a sentence for people, free of credentials.

    ``code`` and ``reason`` are stable words, ``status`` the HTTP status it is answered with.
    """

    code: str
    reason: str
    status: int = 503

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason.value
        self.code = reason.code.value


class InvalidEntry(EgressError, ValueError):
    """A text or entry that somebody stated and that is rejected where it is stated (status 400).

    ``field`` names the offending part (``host``, ``port``, ``family`` …), empty when unknown.
    A ``ValueError`` too, so that pydantic reports it with the key it stands under.
    """

    status = 400

    def __init__(self, message: str, field: str = "") -> None:
        ValueError.__init__(self, message)
        self.reason = "invalid_entry"
        self.code = "INVALID_ENTRY"
        self.field = field
