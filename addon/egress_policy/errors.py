"""Stable words for what can go wrong: reasons of a refusal, their codes, and the errors.

A *reason* is the finer word (``no_record``). It belongs to exactly one *code*
(``PROXY_FAMILY_UNAVAILABLE``), which a client sees in ``x-egress-error``.
This module imports nothing of the package.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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
    LIMIT_REACHED = "limit_reached", Code.UNREACHABLE, "connection_limit_reached"
    HANDSHAKE_FAILED = "handshake_failed", Code.UNREACHABLE, "destination_unavailable"
    PROXY_AUTH = "proxy_auth", Code.UNREACHABLE, "destination_unavailable"

    DISABLED = "disabled", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
    DELETED = "deleted", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
    POOL_EMPTY = "pool_empty", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
    EXIT_MISMATCH = "exit_mismatch", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
    EXIT_UNVERIFIED = "exit_unverified", Code.ASSIGNED_UNAVAILABLE, "destination_unavailable"
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
    by_field: tuple[tuple[str, str], ...] = ()
    """Pairs of a field at fault and what is wrong with it."""

    @property
    def text(self) -> str:
        """The message as it was given: a ``Sentence`` keeps its code, which ``str()`` drops."""
        given = self.args[0] if len(self.args) == 1 else None
        return given if isinstance(given, str) else str(self)


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
        self.by_field = ((field, message),) if field else ()


@dataclass(frozen=True, slots=True)
class Ref:
    """An entry that names another: its id, and what people call it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What names an entry. An assignment is called ``scope:scope_id``, a rule without a name
    ``#`` and its number from 1."""

    pools: tuple[Ref, ...] = ()
    rules: tuple[Ref, ...] = ()
    assignments: tuple[Ref, ...] = ()

    @property
    def count(self) -> int:
        return len(self.pools) + len(self.rules) + len(self.assignments)


class RegistryError(EgressError):
    """The root of errors about entries. ``str()`` is a sentence for people, without credentials."""

    reason = "registry"
    code = "REGISTRY_ERROR"


class NotFound(RegistryError):
    """The entry does not exist (status 404)."""

    status = 404
    code = "NOT_FOUND"


class NotRunning(EgressError):
    """What is asked for lies in the memory of a mitmproxy, and none runs here (409)."""

    status = 409
    code = "NOT_RUNNING"
    reason = "not_running"


class Conflict(RegistryError):
    """The entry was changed since the caller read it (412)."""

    status = 412
    code = "CONFLICT"


class ReadOnly(RegistryError):
    """The entry lies in the policy file and is changed there (409)."""

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

    ``retry_after`` says in how many seconds to try again, ``None`` if something else has to be
    done first.
    """

    code = "REGISTRY_UNAVAILABLE"
    retry_after: int | None = None


class RegistryDown(RegistryUnavailable):
    """The database fails or does not answer; nothing was changed."""

    retry_after = 5


class MaybeMade(RegistryDown):
    """The database did not answer whether it made a change. ``str()`` says what to do."""

    code = "MAYBE_MADE"

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}. The change may have been made or not: look before you repeat it")


class WrongKey(RegistryUnavailable):
    """The registry was made with another key; nothing was changed."""

    code = "WRONG_KEY"


class InvalidFields(InvalidEntry):
    """Every fault of one entry."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(message for _, message in problems), problems[0][0])
        self.by_field = problems


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A fault: the line from 1, the key path (``rules[2].use``), a message."""

    line: int
    key: str
    message: str


class PolicyFileError(InvalidEntry):
    """All faults of a policy file, one line of text each: ``FILE:LINE: KEY: message``.

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
