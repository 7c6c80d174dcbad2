"""The client's half of a SOCKS5 handshake (RFC 1928, RFC 1929) as bytes in and bytes out.

The dialogue::

    client  05 01 <method>                        one method, see ``Handshake.start``
    server  05 <method>
    client  01 <len> username <len> password      with credentials only
    server  01 <status>                           the version may also be 00 or 05
    client  05 01 00 <atyp> <address> <port>      CONNECT
    server  05 <reply> 00 <atyp> <address> <port>

Any split of the server's bytes gives the same result, and no state buffers more than the longest
reply (262 bytes). This module does no I/O; the caller moves the bytes and bounds the time.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import override

from ..sentence import Sentence
from .hint import SILENT_TO_SOCKS, hint

VERSION = 0x05
AUTH_VERSION = 0x01
AUTH_VERSIONS = (AUTH_VERSION, VERSION, 0x00)
"""The versions that servers answer credentials with. Many send the version of SOCKS, or 0. Only the
status counts, as in curl."""
NO_AUTH = 0x00
USER_PASSWORD = 0x02
NO_ACCEPTABLE_METHOD = 0xFF
CONNECT = 0x01
IPV4 = 0x01
DOMAIN = 0x03
IPV6 = 0x04
SUCCEEDED = 0x00
# RFC 3986 section 3.2.2. A proxy behind the proxy may receive the name in a URL, where the other
# characters would begin another part: "x@other.test".
_REG_NAME = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=-]+")

REPLIES = {
    0x01: Sentence("socks5_failure", "general SOCKS server failure"),
    0x02: Sentence("socks5_ruleset", "connection not allowed by ruleset"),
    0x03: Sentence("socks5_network", "Network unreachable"),
    0x04: Sentence("socks5_host", "Host unreachable"),
    0x05: Sentence("socks5_refused", "Connection refused"),
    0x06: Sentence("socks5_ttl", "TTL expired"),
    0x07: Sentence("socks5_command", "Command not supported"),
    0x08: Sentence("socks5_address", "Address type not supported"),
}
"""The failures of RFC 1928 section 6, in its words."""

_TAKES_NO_ACCOUNT = Sentence(
    "socks5_no_account", "the SOCKS5 proxy does not accept user/password authentication"
)
_WANTS_AN_ACCOUNT = Sentence(
    "socks5_account",
    "the SOCKS5 proxy demands authentication and no credentials are configured",
)
_TAKES_NONE = Sentence(
    "socks5_takes_none",
    ": it takes no username and password; remove them if it needs none",
)
_WANTS_ONE = Sentence("socks5_wants_one", ": it wants a username and password")
_REJECTED = Sentence("socks5_rejected", "the SOCKS5 proxy rejected the username or password")


class Socks5Error(ValueError):
    """The handshake cannot succeed. ``str()`` is a sentence free of credentials.

    ``auth`` is true when missing, unusable or rejected credentials are the cause. ``reply`` is the
    code by which the server declined the request (RFC 1928 section 6), ``None`` before that.
    ``text`` is the message as it was given: a ``Sentence`` keeps its code.
    """

    def __init__(self, message: str, auth: bool = False, reply: int | None = None) -> None:
        super().__init__(message)
        self.text = message
        self.auth = auth
        self.reply = reply


class Greeting:
    """The beginning of a handshake: the method, and the credentials where there are some.

    Credentials are used unless both parts are empty; a username does not need a password. Send
    what ``start`` returns, then whatever ``receive`` returns, until ``done``. The constructor
    raises Socks5Error for credentials that SOCKS5 cannot carry, ``receive`` for a server that errs
    or declines.
    """

    def __init__(self, username: str = "", password: str = "") -> None:
        self.done = False
        self.asked = False
        """Whether the server was asked for a target, which may be what is silent."""
        self._credentials = b""
        if username or password:
            self._credentials = _credentials_message(username, password)
        self._buffer = bytearray()
        self._state: Callable[[], bytes | None] = self._read_method

    def start(self) -> bytes:
        """The greeting, which offers exactly one method."""
        # With credentials, only user/password is offered. Credentials often choose the account or
        # exit, so a server that picked "no authentication" would silently give another egress.
        # A server that cannot do user/password says so (FF), and the operator removes them.
        return bytes((VERSION, 1, self._method))

    def receive(self, data: bytes) -> bytes:
        """Take what the server sent and return what to send next (often nothing).

        Do not call this once ``done``, or after an error.
        """
        if self.done:
            raise RuntimeError("the handshake is over: the bytes are not part of it")
        self._buffer += data
        answer = b""
        while (step := self._state()) is not None:
            answer += step
        return answer

    def ended(self) -> None:
        """Nothing more will come. That says no more than that it is so: a reply decides by its
        second byte."""

    @property
    def silence(self) -> str:
        """A clause to append to a sentence about a server that did not answer in time."""
        unanswered = self._state == self._read_method and not self._buffer
        return SILENT_TO_SOCKS if unanswered else ""

    @property
    def _method(self) -> int:
        return USER_PASSWORD if self._credentials else NO_AUTH

    # The states. Each returns None while its message is incomplete.

    def _read_method(self) -> bytes | None:
        if not self._begins_with(VERSION) or len(self._buffer) < 2:
            return None
        method = self._take(2)[1]
        if method == NO_ACCEPTABLE_METHOD:
            raise Socks5Error(
                _TAKES_NO_ACCOUNT if self._credentials else _WANTS_AN_ACCOUNT, auth=True
            )
        if method != self._method:
            raise Socks5Error(self._wrong_choice(method))
        if self._credentials:
            self._state = self._read_auth
            return self._credentials
        return self._greeted()

    def _wrong_choice(self, method: int) -> str:
        chose = "the SOCKS5 proxy chose method {method}, which was not offered{hint}"
        hint = _TAKES_NONE if method == NO_AUTH else _WANTS_ONE if method == USER_PASSWORD else ""
        return Sentence("socks5_chose", chose, method=f"{method:#04x}", hint=hint)

    def _read_auth(self) -> bytes | None:
        if not self._begins_with(*AUTH_VERSIONS) or len(self._buffer) < 2:
            return None
        if self._take(2)[1] != SUCCEEDED:
            raise Socks5Error(_REJECTED, auth=True)
        return self._greeted()

    def _greeted(self) -> bytes:
        self.done = True
        self._state = lambda: None
        return b""

    def _begins_with(self, *versions: int) -> bool:
        """Whether a message has begun. Raises once the bytes are known to be something else."""
        if not self._buffer or self._buffer[0] in versions:
            return bool(self._buffer)
        clause = hint(bytes(self._buffer[:8]), "socks5")
        if clause is None:
            return False
        raise Socks5Error(
            Sentence(
                "socks5_version",
                "the SOCKS5 proxy answered with version {version} instead of {expected}{hint}",
                version=f"{self._buffer[0]:#04x}",
                expected=f"{versions[0]:#04x}",
                hint=clause,
            )
        )

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken


class Handshake(Greeting):
    """One CONNECT to ``host`` (IP literal without brackets, or A-label name) and ``port``.

    Once it is ``done``, ``rest`` holds what the server sent after its reply. The constructor raises
    Socks5Error also for a target that SOCKS5 cannot carry.
    """

    def __init__(self, host: str, port: int, username: str = "", password: str = "") -> None:
        super().__init__(username, password)
        self.rest = b""
        self._request = _connect_request(host, port)
        self._host, self._port = host, port

    @override
    def _greeted(self) -> bytes:
        self._state = self._read_reply
        self.asked = True
        return self._request

    def _read_reply(self) -> bytes | None:
        if not self._begins_with(VERSION):
            return None
        buffer = self._buffer
        # The code alone decides: servers often cut the rest of a failure reply short.
        if len(buffer) >= 2 and buffer[1] != SUCCEEDED:
            raise Socks5Error(self._declined(buffer[1]), reply=buffer[1])
        length = self._reply_length()
        if length is None or len(buffer) < length:
            return None
        self._take(length)  # the reserved byte and the bound address are not used
        self.rest = self._take(len(buffer))
        self.done = True
        self._state = lambda: None
        return b""

    def _declined(self, code: int) -> str:
        unassigned = "unassigned reply code {code}"
        return Sentence(
            "socks5_answered",
            "asked for {host} port {port}, the SOCKS5 proxy answered: {reply}",
            host=self._host,
            port=str(self._port),
            reply=REPLIES.get(code) or Sentence("socks5_reply", unassigned, code=f"{code:#04x}"),
        )

    def _reply_length(self) -> int | None:
        """Length of the reply in the buffer, None while it is not known yet."""
        if len(self._buffer) < 4:
            return None
        address_type = self._buffer[3]
        if address_type == IPV4:
            return 4 + 4 + 2
        if address_type == IPV6:
            return 4 + 16 + 2
        if address_type != DOMAIN:
            replied = "the SOCKS5 proxy replied with address type {type}"
            raise Socks5Error(Sentence("socks5_bound", replied, type=f"{address_type:#04x}"))
        return 4 + 1 + self._buffer[4] + 2 if len(self._buffer) > 4 else None


def _connect_request(host: str, port: int) -> bytes:
    if not 0 < port < 65536:
        raise Socks5Error(f"port {port} is not within 1..65535")
    return bytes((VERSION, CONNECT, 0)) + _address(host) + port.to_bytes(2)


def _address(host: str) -> bytes:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return _domain(host)
    if isinstance(ip, ipaddress.IPv4Address):
        return bytes((IPV4,)) + ip.packed
    if ip.scope_id is not None:
        raise Socks5Error("an IPv6 scope id means nothing to a SOCKS5 proxy")
    return bytes((IPV6,)) + ip.packed


def _domain(host: str) -> bytes:
    if not 1 <= len(host) <= 255:
        raise Socks5Error("a hostname for a SOCKS5 proxy must have 1 to 255 bytes")
    if not _REG_NAME.fullmatch(host):
        raise Socks5Error("a hostname for a SOCKS5 proxy must be an A-label")
    return bytes((DOMAIN, len(host))) + host.encode("ascii")


def _credentials_message(username: str, password: str) -> bytes:
    message = bytes((AUTH_VERSION,))
    for name, text, least in (("username", username, 1), ("password", password, 0)):
        try:
            value = text.encode()
        except UnicodeEncodeError:
            # `from None`: the codec's message quotes the text.
            raise Socks5Error(f"the {name} cannot be written in UTF-8", auth=True) from None
        # RFC 1929 wants at least one byte of password; curl sends none, and servers accept that.
        if not least <= len(value) <= 255:
            raise Socks5Error(f"a SOCKS5 {name} must have {least} to 255 bytes of UTF-8", auth=True)
        message += bytes((len(value),)) + value
    return message
