"""The HTTP CONNECT handshake (RFC 9110 section 9.3.6, RFC 9112) as bytes in and bytes out.

h11 is not used because a successful answer's Content-Length and Transfer-Encoding MUST be ignored,
while h11 rejects the whole answer when they are malformed. Only the status line matters here, and
where the proxy says that it or the target has failed, two fields: Retry-After and Proxy-Status.
This module does no I/O; the caller bounds the time.
"""

import base64
import ipaddress
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

from ..sentence import Sentence
from .hint import hint
from .redact import Redactor

_VERSION_PREFIX = b"HTTP/1."
# More than one space is against RFC 9112 section 4, but is sent, and curl takes it.
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] +([1-9][0-9]{2})(?: (.*))?", re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t -~]*")
_REG_NAME = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECONDS = re.compile(r"[0-9]{1,10}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?')
_ERROR = re.compile(r";[ ]*error=([a-z][a-z0-9_]{0,63})(?=[ ]*(?:[;,]|$))")
_REASON_LIMIT = 200
_TELLING = frozenset({429, 500, *range(502, 505)})
"""Statuses of answers whose fields tell more."""


class ConnectError(ValueError):
    """There is no tunnel. ``str()`` is a sentence free of credentials and control characters.

    ``status`` is the status of the proxy's answer, 0 without an answer. It is not the status that a
    client of mitmproxy should see. ``retry_after`` has the seconds of that header, if it came, and
    ``error`` the error type of Proxy-Status. ``text`` is the message as it was given: a
    ``Sentence`` keeps its code.
    """

    def __init__(
        self, message: str, status: int = 0, retry_after: float | None = None, error: str = ""
    ) -> None:
        super().__init__(message)
        self.text = message
        self.status = status
        self.retry_after = retry_after
        self.error = error


class ConnectHandshake:
    """Reads the head of a proxy's answer to one CONNECT to ``host`` and ``port``.

    Feed ``receive`` until ``done``: ``status`` and ``reason`` are then those of a 2xx answer, and
    ``rest`` holds the first bytes of the tunnel. Interim 1xx answers are skipped. ``redactor``
    keeps the account in the request out of errors. ``head_limit`` bounds the bytes of all heads
    together. ``clock`` tells the time of day in seconds, by which a date in Retry-After is read.

    Raises ConnectError for bytes that are not an HTTP/1 answer, and for any other answer: as soon
    as its status line is complete, or the whole head where its fields matter. Call ``ended`` where
    nothing more comes.
    """

    asked = True
    """The request names the target, so that silence may be the target's."""
    silence = ""
    """A clause to append to a sentence about a proxy that did not answer in time."""

    def __init__(
        self,
        host: str,
        port: int,
        redactor: Redactor,
        head_limit: int = 65536,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host, self._port = host, port
        self._redactor = redactor
        self._clock = clock
        self.done = False
        self.status = 0
        self.reason = ""
        self.rest = b""
        self._left = head_limit
        self._buffer = bytearray()
        self._searched = 0
        self._in_head = False
        self._retry_after: float | None = None
        self._error = ""

    def receive(self, data: bytes) -> None:
        """Take what the proxy sent. Do not call this once ``done``, or after an error."""
        if self.done:
            raise RuntimeError("the handshake is over: the bytes belong to the tunnel")
        self._buffer += data
        while (line := self._take_line()) is not None:
            if not self._in_head:
                self._read_status(line)
            elif not line:
                self._end_head()
            elif self.status >= 400:
                self._read_field(line)
            # Header lines of a 2xx are dropped unread: nothing in them may change what it means.

    def ended(self) -> None:
        """Nothing more will come. Raises ConnectError if the answer has begun to say why."""
        if self._in_head and self.status >= 400:
            raise self._declined()

    def _take_line(self) -> bytes | None:
        """The next line without its end (RFC 9112 section 2.2 allows a bare LF)."""
        # Garbage shows in its first bytes; the end of its line may never come.
        if not self._in_head and not begins_as_http(bytes(self._buffer[:8]), "CONNECT"):
            return None
        end = self._buffer.find(b"\n", self._searched) + 1
        if (end or len(self._buffer)) > self._left:
            self.ended()
            long = "the head of the proxy's answer to CONNECT is too long"
            raise ConnectError(Sentence("connect_head_long", long), self.status)
        if not end:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._left -= end
        self._searched = 0
        return line[:-1].removesuffix(b"\r")

    def _read_status(self, line: bytes) -> None:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            other = "the proxy did not answer CONNECT with an HTTP/1 status line"
            raise ConnectError(Sentence("connect_no_status", other))
        self.status = int(match[1])
        # Redact before cutting: half of an account would not be recognised.
        reason = self._redactor.text((match[2] or b"").decode("utf-8", "replace"))
        self.reason = _printable(reason)[:_REASON_LIMIT]
        # 101 would switch to a protocol that was never proposed.
        if (self.status >= 300 or self.status == 101) and self.status not in _TELLING:
            raise self._declined()
        self._in_head = True

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.decode("latin-1").partition(":")
        match name.lower():
            case "retry-after":
                after = retry_after(value.strip(), self._clock())
                self._retry_after = after if self._retry_after is None else self._retry_after
            case "proxy-status":
                self._error = proxy_error(value) or self._error

    def _end_head(self) -> None:
        if self.status >= 400:
            raise self._declined()
        self._in_head = False
        if self.status >= 200:
            self.rest = bytes(self._buffer)
            self._buffer.clear()
            self.done = True

    def _declined(self) -> ConnectError:
        answer = f"{self.status} {self.reason}".rstrip()
        what = Sentence(
            "connect_answered",
            "asked for {host} port {port}, the proxy answered CONNECT with {answer}",
            host=self._host,
            port=str(self._port),
            answer=answer,
        )
        return ConnectError(what, self.status, self._retry_after, self._error)


def retry_after(value: str, now: float) -> float | None:
    """The seconds in a Retry-After field (RFC 9110 section 10.2.3), ``None`` if it has none.

    A date is relative to ``now``, in seconds since 1970; one that has passed gives 0.
    """
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        # The dates of HTTP are in UTC, also where they do not say so (section 5.6.7).
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def proxy_error(value: str) -> str:
    """The error type in a Proxy-Status field (RFC 9209 section 2.1.1), empty if it has none.

    Of several proxies in a chain it is that of the last, which is the nearest.
    """
    return next(reversed(_ERROR.findall(_QUOTED.sub('""', value))), "")


def begins_as_http(first: bytes, asked: str) -> bool:
    """Whether the ``first`` bytes of an answer may begin an HTTP/1 answer to ``asked``.

    False while there are too few bytes to tell what else the peer speaks. Raises ConnectError when
    the bytes are certainly not HTTP/1.
    """
    first = first[: len(_VERSION_PREFIX)]
    if _VERSION_PREFIX.startswith(first):
        return True
    clause = hint(first, "http")
    if clause is None:
        return False
    other = "the proxy did not answer {asked} with HTTP/1{hint}"
    raise ConnectError(Sentence("not_http", other, asked=asked, hint=clause))


def connect_request(
    host: str,
    port: int,
    username: str = "",
    password: str = "",
    extra_headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The request head that asks for a tunnel to ``host`` (IP literal without brackets, or name).

    Credentials are sent unless both parts are empty. Raises ConnectError for a value that a
    request head cannot carry.
    """
    authority = _authority(host, port)
    headers = [("Host", authority)]
    if username or password:
        headers.append(("Proxy-Authorization", basic_credentials(username, password)))
    headers += extra_headers
    lines = [f"CONNECT {authority} HTTP/1.1", *(_field(*header) for header in headers)]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def basic_credentials(username: str, password: str) -> str:
    """The value of a Proxy-Authorization field (RFC 7617, in UTF-8).

    Raises ConnectError for credentials that Basic cannot carry; its message does not quote them.
    """
    if ":" in username:
        raise ConnectError("a username for Basic authentication cannot contain a colon")
    if _CONTROL.search(username + password):
        raise ConnectError("credentials for Basic authentication cannot hold control characters")
    try:
        pair = f"{username}:{password}".encode()
    except UnicodeEncodeError:
        # `from None`: the codec's message quotes the text.
        raise ConnectError("the credentials cannot be written in UTF-8") from None
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _authority(host: str, port: int) -> str:
    if not 0 < port < 65536:
        raise ConnectError(f"port {port} is not within 1..65535")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if not _REG_NAME.fullmatch(host):
            raise ConnectError("the target host cannot be written in a CONNECT request") from None
        return f"{host}:{port}"
    if isinstance(ip, ipaddress.IPv4Address):
        return f"{ip}:{port}"
    if ip.scope_id is not None:
        raise ConnectError("an IPv6 scope id means nothing to an HTTP proxy")
    return f"[{ip}]:{port}"


def _field(name: str, value: str) -> str:
    if not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
        raise ConnectError("a header of the CONNECT request holds characters it cannot carry")
    return f"{name}: {value}"


def _printable(text: str) -> str:
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text.strip()
    )
