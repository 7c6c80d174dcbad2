"""The handshake with a proxy over a stream: TLS to an https proxy, then CONNECT or SOCKS5.

It does for connections that no flow asks for what the proxy's tunnels do for those of flows.
"""

import asyncio
from typing import Literal

from ..model.decision import Route
from ..policy.hop import ENDED, HopFailure, answered_connect, answered_socks, broken, silent
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
        raise refused(route, _declined(error)) from error
    except socks5.Socks5Error as error:
        raise refused(route, answered_socks(str(error), error.reply, error.auth)) from error
    except TimeoutError as error:
        raise refused(route, handshake.told or handshake.silent(limit)) from error
    except OSError as error:
        why = f"the connection broke in the handshake: {error_text(error)}"
        raise refused(route, handshake.told or broken(why)) from error


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


def _declined(error: http_connect.ConnectError) -> HopFailure:
    return answered_connect(str(error), error.status, error.retry_after, error.error)


class _Handshake:
    def __init__(self, route: Route, tls: TlsOf) -> None:
        self._route, self._tls = route, tls
        self._account = route.proxy.username, route.proxy.password.get_secret_value()
        self._secure: TlsStream | None = None
        self._begun: http_connect.ConnectHandshake | socks5.Handshake | None = None

    @property
    def told(self) -> HopFailure | None:
        """What the proxy has said by its unfinished answer, if anything."""
        try:
            if self._begun:
                self._begun.ended()
        except http_connect.ConnectError as error:
            return _declined(error)
        return None

    def silent(self, seconds: float) -> HopFailure:
        """The failure where the proxy does not go on."""
        if self._begun:
            return silent(seconds, self._begun.silence, asked=self._begun.asked)
        waits = self._secure is not None and not self._secure.first
        return silent(seconds, SILENT_TO_TLS if waits else "")

    async def run(self, stream: Stream, forwards: bool) -> Stream:
        proxy = self._route.proxy
        if proxy.type == "https":
            # The name stays the server name and is what the certificate is checked for.
            self._secure = TlsStream(stream, self._tls, proxy.host)
            stream = await start_tls(self._route, self._secure, "the proxy")
        if forwards:
            return stream
        target = self._route.target
        handshake: http_connect.ConnectHandshake | socks5.Handshake
        if proxy.type == "socks5":
            handshake = socks5.Handshake(*target, *self._account)
            first = handshake.start()
        else:
            handshake = http_connect.ConnectHandshake(*target, Redactor(*self._account))
            first = http_connect.connect_request(*target, *self._account)
        self._begun = handshake
        await stream.send(first)
        while not handshake.done:
            data = await stream.receive()
            if not data:
                raise refused(self._route, self.told or ENDED)
            if answer := handshake.receive(data):
                await stream.send(answer)
        return Unread(stream, handshake.rest)
