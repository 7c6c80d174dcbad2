"""Stable words for what can go wrong: the reasons of a refusal, their codes, and the error root.

A *reason* is the finer word (``no_record``). It belongs to exactly one *code*
(``PROXY_FAMILY_UNAVAILABLE``), which a client sees in ``x-egress-error``.
This module imports nothing of the package.
"""

from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """The stable codes a refusal is answered with."""

    FAMILY_UNAVAILABLE = "PROXY_FAMILY_UNAVAILABLE"
    UNREACHABLE = "PROXY_UNREACHABLE"
    ASSIGNED_UNAVAILABLE = "PROXY_ASSIGNED_UNAVAILABLE"
    REFUSED = "EGRESS_REFUSED"
    INTERNAL = "EGRESS_INTERNAL"


class Reason(StrEnum):
    """Why a flow was refused.

    ``code`` is the code that the reason is reported under, ``proxy_status`` the nearest proxy error
    type of RFC 9209 section 2.3.
    """

    code: Code
    proxy_status: str

    def __new__(
        cls, word: str, code: Code = Code.INTERNAL, proxy_status: str = "proxy_internal_error"
    ) -> Self:
        reason = str.__new__(cls, word)
        reason._value_, reason.code, reason.proxy_status = word, code, proxy_status
        return reason

    NO_RECORD = "no_record", Code.FAMILY_UNAVAILABLE, "dns_error"
    DNS_FAILURE = "dns_failure", Code.FAMILY_UNAVAILABLE, "dns_error"
    DNS_TIMEOUT = "dns_timeout", Code.FAMILY_UNAVAILABLE, "dns_timeout"
    LITERAL_CONTRADICTION = (
        "literal_contradiction",
        Code.FAMILY_UNAVAILABLE,
        "destination_ip_prohibited",
    )
    MAPPED_ADDRESS = "mapped_address", Code.FAMILY_UNAVAILABLE, "destination_ip_prohibited"
    PEER_MISMATCH = "peer_mismatch", Code.FAMILY_UNAVAILABLE, "destination_ip_prohibited"

    CONNECT_REFUSED = "connect_refused", Code.UNREACHABLE, "connection_refused"
    CONNECT_TIMEOUT = "connect_timeout", Code.UNREACHABLE, "connection_timeout"
    CIRCUIT_OPEN = "circuit_open", Code.UNREACHABLE, "destination_unavailable"
    HANDSHAKE_FAILED = "handshake_failed", Code.UNREACHABLE, "destination_unavailable"
    PROXY_AUTH = "proxy_auth", Code.UNREACHABLE, "destination_unavailable"

    DISABLED = "disabled", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
    DELETED = "deleted", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
    POOL_EMPTY = "pool_empty", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
    SOCKS5_DISABLED = "socks5_disabled", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"

    RULE = "rule", Code.REFUSED, "http_request_denied"
    DEFAULT = "default", Code.REFUSED, "http_request_denied"
    UDP_OVER_PROXY = "udp_over_proxy", Code.REFUSED, "http_request_denied"
    LOOP = "loop", Code.REFUSED, "proxy_loop_detected"

    ERROR = "error"


class EgressError(Exception):
    """The root of all errors that this package raises on purpose.

    ``str()`` is a sentence for people, free of credentials; ``code`` and ``reason`` are stable
    words, ``status`` is the HTTP status of the answer.
    """

    code: str = Code.INTERNAL.value
    reason: str = Reason.ERROR.value
    status: int = 503


class Unavailable(EgressError):
    """An egress cannot be used, for this reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason.value
        self.code = reason.code.value


class InvalidEntry(EgressError, ValueError):
    """A text or entry that is rejected where it is entered.

    ``field`` names the faulty part (``host``, ``port``, ``family`` …), empty if unknown. It is a
    ``ValueError`` too, so that pydantic reports it together with its key.
    """

    code = "INVALID_ENTRY"
    reason = "invalid_entry"
    status = 400

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
