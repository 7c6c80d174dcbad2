"""The handshake with a proxy over a stream: TLS to an https proxy, then CONNECT or SOCKS5.

It does for connections that no flow asks for what the proxy's tunnels do for those of flows.
"""

import asyncio
from typing import Literal

from ..model.decision import Route
from ..policy.hop import ENDED, answered_connect, answered_socks, broken, silent
from ..wire import http_connect, socks5
from ..wire.hint import SILENT_TO_TLS, hint
from ..wire.redact import Redactor
from .dial import refused
from .stream import Stream, TlsOf, TlsStream, Unread, error_text


async def open_tunnel(
    route: Route, stream: Stream, tls: TlsOf, forwards: bool, limit: float
) -> Stream:
    """The stream on which the target of a route speaks, or its proxy where that ``forwards``.

    ``stream`` leads to the proxy. Raises ``Refused`` where the proxy declines, breaks off, or needs
    more than ``limit`` seconds.
    """
    handshake = _Handshake(route, tls)
    try:
        async with asyncio.timeout(limit):
            return await handshake.run(stream, forwards)
    except http_connect.ConnectError as error:
        failure = answered_connect(str(error), error.status, error.retry_after)
        raise refused(route, failure) from error
    except socks5.Socks5Error as error:
        raise refused(route, answered_socks(str(error), error.reply, error.auth)) from error
    except TimeoutError as error:
        raise refused(route, silent(limit, handshake.silence)) from error
    except OSError as error:
        why = f"the connection broke in the handshake: {error_text(error)}"
        raise refused(route, broken(why)) from error


async def start_tls(
    route: Route, stream: TlsStream, whom: Literal["the proxy", "the target"]
) -> TlsStream:
    """Begin TLS, and return the stream. Raises ``Refused`` where that fails."""
    try:
        await stream.start()
    except (OSError, ValueError) as error:
        told = hint(stream.first, "https") if whom == "the proxy" else None
        why = f"TLS with {whom} failed: {error_text(error)}{told or ''}"
        raise refused(route, broken(why)) from error
    return stream


class _Handshake:
    def __init__(self, route: Route, tls: TlsOf) -> None:
        self._route, self._tls = route, tls
        self._account = route.proxy.username, route.proxy.password.get_secret_value()
        self._secure: TlsStream | None = None
        self._socks5: socks5.Handshake | None = None

    @property
    def silence(self) -> str:
        """A clause about why the proxy does not go on, or nothing."""
        if self._socks5:
            return self._socks5.silence
        return SILENT_TO_TLS if self._secure and not self._secure.first else ""

    async def run(self, stream: Stream, forwards: bool) -> Stream:
        proxy = self._route.proxy
        if proxy.type == "https":
            # The name stays the server name and is what the certificate is checked for.
            self._secure = TlsStream(stream, self._tls, proxy.host)
            stream = await start_tls(self._route, self._secure, "the proxy")
        if forwards:
            return stream
        target = self._route.target
        if proxy.type == "socks5":
            self._socks5 = socks5.Handshake(*target, *self._account)
            return await self._ask(stream, self._socks5, self._socks5.start())
        handshake = http_connect.ConnectHandshake(*target, Redactor(*self._account))
        request = http_connect.connect_request(*target, *self._account)
        return await self._ask(stream, handshake, request)

    async def _ask(
        self,
        stream: Stream,
        handshake: http_connect.ConnectHandshake | socks5.Handshake,
        first: bytes,
    ) -> Stream:
        """Speak until the tunnel is open, and give back what came behind the handshake."""
        await stream.send(first)
        while not handshake.done:
            data = await stream.receive()
            if not data:
                raise refused(self._route, ENDED)
            if answer := handshake.receive(data):
                await stream.send(answer)
        return Unread(stream, handshake.rest)
