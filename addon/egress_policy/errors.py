"""What can go wrong: the reasons of a refusal, their codes, and the errors that faces tell apart.

A *reason* is the finer word (``no_record``); every reason belongs to exactly one *code*
(``PROXY_FAMILY_UNAVAILABLE``), which is what a client sees in ``x-egress-error``.
This module imports nothing of the package.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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
        """The code that this reason is reported under."""
        return _WORDS[self][0]

    @property
    def proxy_status(self) -> str:
        """The proxy error type that comes nearest to it (RFC 9209 section 2.3)."""
        return _WORDS[self][1]


_WORDS: dict[Reason, tuple[Code, str]] = {
    Reason.NO_RECORD: (Code.FAMILY_UNAVAILABLE, "dns_error"),
    Reason.DNS_FAILURE: (Code.FAMILY_UNAVAILABLE, "dns_error"),
    Reason.DNS_TIMEOUT: (Code.FAMILY_UNAVAILABLE, "dns_timeout"),
    Reason.LITERAL_CONTRADICTION: (Code.FAMILY_UNAVAILABLE, "destination_ip_prohibited"),
    Reason.MAPPED_ADDRESS: (Code.FAMILY_UNAVAILABLE, "destination_ip_prohibited"),
    Reason.PEER_MISMATCH: (Code.FAMILY_UNAVAILABLE, "destination_ip_prohibited"),
    Reason.CONNECT_REFUSED: (Code.UNREACHABLE, "connection_refused"),
    Reason.CONNECT_TIMEOUT: (Code.UNREACHABLE, "connection_timeout"),
    Reason.CIRCUIT_OPEN: (Code.UNREACHABLE, "destination_unavailable"),
    Reason.HANDSHAKE_FAILED: (Code.UNREACHABLE, "destination_unavailable"),
    Reason.PROXY_AUTH: (Code.UNREACHABLE, "destination_unavailable"),
    Reason.DISABLED: (Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"),
    Reason.DELETED: (Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"),
    Reason.POOL_EMPTY: (Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"),
    Reason.SOCKS5_DISABLED: (Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"),
    Reason.RULE: (Code.REFUSED, "http_request_denied"),
    Reason.DEFAULT: (Code.REFUSED, "http_request_denied"),
    Reason.UDP_OVER_PROXY: (Code.REFUSED, "http_request_denied"),
    Reason.LOOP: (Code.REFUSED, "proxy_loop_detected"),
    Reason.ERROR: (Code.INTERNAL, "proxy_internal_error"),
}


class EgressError(Exception):
    """The root of all errors of this package. ``str()`` is a sentence for people, free of
    credentials; ``code`` and ``reason`` are stable words, ``status`` is the HTTP status that it is
    answered with.
    """

    code: str = Code.INTERNAL.value
    reason: str = Reason.ERROR.value
    status: int = 503
    by_field: tuple[tuple[str, str], ...] = ()
    """Pairs of a field at fault and what is wrong with it."""


class Unavailable(EgressError):
    """An egress that cannot be had, and why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason.value
        self.code = reason.code.value


class InvalidEntry(EgressError, ValueError):
    """A text or entry that is rejected where it is entered.

    ``field`` names the offending part (``host``, ``port``, ``family`` …), empty when unknown.
    A ``ValueError`` too, so that pydantic reports it with the key it stands under.
    """

    code = "INVALID_ENTRY"
    reason = "invalid_entry"
    status = 400

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.by_field = ((field, message),) if field else ()


@dataclass(frozen=True, slots=True)
class Ref:
    """An entry that refers to another: its id, and what people call it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What names an entry. An assignment is called ``scope:scope_id``, a rule without name
    ``#`` and its number from 1."""

    pools: tuple[Ref, ...] = ()
    rules: tuple[Ref, ...] = ()
    assignments: tuple[Ref, ...] = ()

    @property
    def count(self) -> int:
        return len(self.pools) + len(self.rules) + len(self.assignments)


class RegistryError(EgressError):
    """The root of the registry's errors."""

    reason = "registry"
    code = "REGISTRY_ERROR"


class NotFound(RegistryError):
    """There is no such entry (status 404)."""

    status = 404
    code = "NOT_FOUND"


class Conflict(RegistryError):
    """Somebody else was faster: the entry has changed since it was read (412)."""

    status = 412
    code = "CONFLICT"


class ReadOnly(RegistryError):
    """The entry belongs to the policy file (409)."""

    status = 409
    code = "READ_ONLY"


class InUse(RegistryError):
    """The entry cannot be deleted, because ``usage`` names it (409)."""

    status = 409
    code = "IN_USE"

    def __init__(self, message: str, usage: Usage) -> None:
        super().__init__(message)
        self.usage = usage


class RegistryUnavailable(RegistryError):
    """The database cannot be used; nothing was changed (503).

    ``retry_after`` is after how many seconds another attempt may succeed, ``None`` where something
    else has to be done first.
    """

    code = "REGISTRY_UNAVAILABLE"
    retry_after: int | None = None


class RegistryDown(RegistryUnavailable):
    """The database fails or does not answer; nothing was changed."""

    retry_after = 5


class MaybeMade(RegistryDown):
    """The database has not said whether it made a change. ``str()`` says what to do."""

    code = "MAYBE_MADE"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}. The change may have been made or not: look before you ask for it again"
        )


class WrongKey(RegistryUnavailable):
    """The passwords in this registry were encrypted with another key; nothing was changed."""

    code = "WRONG_KEY"


class InvalidFields(InvalidEntry):
    """All that is wrong with one entry."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(message for _, message in problems), problems[0][0])
        self.by_field = problems


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing that is wrong: the line from 1, the key path (``rules[2].use``), a message."""

    line: int
    key: str
    message: str


class PolicyFileError(InvalidEntry):
    """All that is wrong with a policy file, one line of text each: ``FILE:LINE: KEY: message``.

    ``problems`` has the same as values, ``field`` is the first key. ``unread`` is true where the
    file, or one that it names, could not be read: then another attempt may succeed without an edit.
    """

    def __init__(
        self, source: str, problems: Iterable[FileProblem], *, unread: bool = False
    ) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        self.unread = unread
        lines = (f"{source}:{p.line}: {p.key}: {p.message}" for p in self.problems)
        super().__init__("\n".join(lines), self.problems[0].key)
