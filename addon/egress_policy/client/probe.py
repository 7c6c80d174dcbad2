"""The test of a proxy: one request through its pinned hop, each step timed."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import h11

from ..errors import Reason
from ..model.decision import Refusal
from ..model.host import url_host
from ..model.target_url import TargetUrl
from ..policy.attempts import ADDRESS_TIMEOUT, CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT
from ..wire import http_connect, socks5
from ..wire.hint import SILENT_TO_TLS, hint
from ..wire.redact import Redactor
from .dial import ProbeHop, Refused, dial, os_text
from .egress_ip import find_egress_ip
from .stream import SocketStream, Stream, TlsStream, Unread

_READ_LIMIT: Final = 65536
_BEGINNING: Final = 8
"""How many bytes tell a protocol."""

TlsOf = Callable[[str], ssl.SSLContext]
"""Settings for TLS with a server by its name. They offer no more than HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """Seconds: for one address to accept, for the handshake with the proxy, for the answer of the
    target, for all addresses together. All but the third are those of flows, which wait for the
    target for as long as it takes."""

    address: float = ADDRESS_TIMEOUT
    handshake: float = HANDSHAKE_TIMEOUT
    answer: float = 15.0
    connect: float = CONNECT_TIMEOUT


STANDARD: Final = ProbeLimits()


@dataclass(slots=True)
class ProbeResult:
    """How it went. Times are in milliseconds, ``None`` for what was not reached.

    ``connect_ms`` counts all addresses tried, ``handshake_ms`` TLS to the proxy too, and
    ``first_byte_ms`` TLS to the target. Without ``refusal`` the target answered, with ``status``.
    """

    address: str | None = None
    peer_family: Literal["ipv4", "ipv6"] | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    handshake_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float = 0.0
    status: int | None = None
    egress_ip: str | None = None
    refusal: Refusal | None = None


async def probe(
    hop: ProbeHop,
    url: TargetUrl,
    tls: TlsOf | None = None,
    limits: ProbeLimits = STANDARD,
    clock: Callable[[], float] = time.perf_counter,
) -> ProbeResult:
    """Ask for ``url`` through ``hop``. ``tls`` is for an https proxy and for an https target.
    Raises nothing for what the network does."""
    test = _Test(hop, url, tls, limits, clock)
    started = clock()
    try:
        await test.run()
    except Refused as refused:
        test.result.refusal = refused.refusal
    test.result.total_ms = (clock() - started) * 1000
    return test.result


class _Test:
    def __init__(
        self,
        hop: ProbeHop,
        url: TargetUrl,
        tls: TlsOf | None,
        limits: ProbeLimits,
        clock: Callable[[], float],
    ) -> None:
        self.result = ProbeResult(dns_ms=hop.pin.dns_ms)
        self._hop, self._proxy, self._url = hop, hop.proxy, url
        self._tls, self._limits, self._clock = tls, limits, clock
        self._credentials = hop.proxy.username, hop.proxy.password.get_secret_value()
        self._redactor = Redactor(*self._credentials)
        self._silence = ""
        """What to say of a proxy that does not go on with the handshake."""
        # As for flows: plain HTTP goes to an HTTP proxy in absolute form, unless that is not wanted
        # or would leave it to the proxy by which family the target is reached.
        plain = url.scheme == "http" and hop.proxy.type != "socks5"
        unpinned = hop.proxy.target_family is None
        self._forwards = plain and unpinned and hop.proxy.plain_http == "forward"

    async def run(self) -> None:
        result, began = self.result, self._clock()
        with await dial(self._hop, self._limits.address, self._limits.connect) as sock:
            result.connect_ms, began = self._since(began), self._clock()
            result.address = str(sock.getpeername()[0])
            result.peer_family = "ipv6" if ":" in result.address else "ipv4"
            stream = await self._handshake(SocketStream(sock))
            result.handshake_ms = self._since(began)
            try:
                async with asyncio.timeout(self._limits.answer):
                    await self._ask(stream)
            except TimeoutError as error:
                if result.status is None:
                    text = f"no answer came through it within {self._limits.answer:g} s"
                    raise self._failed(text) from error

    # -- the proxy

    async def _handshake(self, stream: Stream) -> Stream:
        """The stream on which the target is asked, or the proxy that forwards."""
        try:
            async with asyncio.timeout(self._limits.handshake):
                if self._proxy.type == "https":
                    # The name stays the server name and is what the certificate is checked for.
                    stream = await self._start_tls(stream, self._proxy.host, "the proxy")
                if self._forwards:
                    return stream
                tunnel = self._socks5 if self._proxy.type == "socks5" else self._connect
                return Unread(stream, await tunnel(stream))
        except (http_connect.ConnectError, socks5.Socks5Error) as error:
            reason = Reason.PROXY_AUTH if error.auth else Reason.HANDSHAKE_FAILED
            raise self._hop.refused(reason, str(error)) from error
        except TimeoutError as error:
            text = f"no end of the handshake in {self._limits.handshake:g} s{self._silence}"
            raise self._hop.refused(Reason.HANDSHAKE_FAILED, text) from error
        except OSError as error:
            raise self._failed(f"the connection broke in the handshake: {_why(error)}") from error

    async def _socks5(self, stream: Stream) -> bytes:
        """The first bytes behind the handshake."""
        handshake = socks5.Handshake(*self._hop.target, *self._credentials)
        await stream.send(handshake.start())
        self._silence = handshake.silence
        while not handshake.done:
            answer = handshake.receive(await self._more(stream))
            self._silence = handshake.silence
            if answer:
                await stream.send(answer)
        return handshake.rest

    async def _connect(self, stream: Stream) -> bytes:
        """The first bytes behind the handshake."""
        handshake = http_connect.ConnectHandshake(*self._hop.target, self._redactor)
        request = http_connect.connect_request(*self._hop.target, *self._credentials)
        await stream.send(request)
        while not handshake.done:
            handshake.receive(await self._more(stream))
        return handshake.rest

    async def _more(self, stream: Stream) -> bytes:
        if data := await stream.receive():
            return data
        raise self._failed("it closed the connection in the handshake")

    async def _start_tls(self, stream: Stream, name: str, whom: str) -> Stream:
        if self._tls is None:
            raise self._hop.refused(Reason.ERROR, "there are no settings for TLS")
        secure: TlsStream | None = None
        try:
            secure = TlsStream(stream, self._tls(name), name)
            self._silence = SILENT_TO_TLS
            await secure.start()
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate is for
            first = secure.first if secure and whom == "the proxy" else b""
            told = hint(first, "https") or ""
            raise self._failed(f"TLS with {whom} failed: {_why(error)}{told}") from error
        finally:
            if secure is not None and secure.first:
                self._silence = ""
        return secure

    # -- the target

    async def _ask(self, stream: Stream) -> None:
        began, url = self._clock(), self._url
        if url.is_tls:
            stream = await self._start_tls(stream, url.host, "the target")
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_READ_LIMIT)
        try:
            await stream.send(http.send(self._request()) or b"")
            http.send(h11.EndOfMessage())
            status = await self._status(http, stream, began)
        except http_connect.ConnectError as error:
            raise self._failed(str(error)) from error
        except (OSError, h11.ProtocolError) as error:
            why = self._redactor.text(_why(error))  # h11 quotes the line that it cannot read
            raise self._failed(f"no answer of HTTP came through it: {why}") from error
        if self._forwards and status >= 400:  # who says so, proxy or target, cannot be told
            reason = Reason.PROXY_AUTH if status == 407 else Reason.HANDSHAKE_FAILED
            raise self._hop.refused(reason, f"the answer was {status}")
        self.result.status = status
        self.result.egress_ip = find_egress_ip(await _body(http, stream))

    def _request(self) -> h11.Request:
        url, target = self._url, self._url.path
        headers = [
            ("host", url.authority),
            ("user-agent", "egress-policy"),
            ("accept", "application/json, text/plain;q=0.9, */*;q=0.1"),
            ("connection", "close"),
        ]
        if self._forwards:
            target = f"http://{url_host(url.host)}:{url.port}{url.path}"
            if any(self._credentials):
                value = http_connect.basic_credentials(*self._credentials)
                headers.append(("proxy-authorization", value))
        return h11.Request(method="GET", target=target, headers=headers)

    async def _status(self, http: h11.Connection, stream: Stream, began: float) -> int:
        first = b""
        while True:
            event = http.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if event is h11.NEED_DATA:
                data = await stream.receive()
                if not data:
                    raise self._failed("the connection was closed without an answer")
                if self.result.first_byte_ms is None:
                    self.result.first_byte_ms = self._since(began)
                if self._forwards and len(first) < _BEGINNING:  # it is the proxy's answer
                    first = (first + data).lstrip(b"\r\n")[:_BEGINNING]
                    http_connect.begins_as_http(first, "the request")
                http.receive_data(data)
            elif not isinstance(event, h11.InformationalResponse):
                raise self._failed("what came through it is no answer")

    # -- what all of it needs

    def _since(self, began: float) -> float:
        return (self._clock() - began) * 1000

    def _failed(self, what: str) -> Refused:
        return self._hop.refused(Reason.HANDSHAKE_FAILED, what)


async def _body(http: h11.Connection, stream: Stream) -> bytes:
    """As much of the body as there is within the limit; nothing if it breaks."""
    body, received = b"", 0
    try:
        while received < _READ_LIMIT:
            event = http.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                received += len(data := await stream.receive())
                http.receive_data(data)
            else:
                break
    except (OSError, h11.ProtocolError):
        return b""
    return body


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return os_text(error) if isinstance(error, OSError) else str(error)
