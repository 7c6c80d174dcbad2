"""The handshake with a proxy over a stream: TLS to an https proxy, then CONNECT or SOCKS5.

It does for connections that no flow asks for what the proxy's tunnels do for those of flows.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Literal

from ..model.decision import Route
from ..policy.fault import Cause
from ..policy.hop import (
    HopFailure,
    answered_connect,
    answered_socks,
    broken,
    ended,
    silent,
    unbegun,
)
from ..sentence import Sentence
from ..wire import http_connect, socks5
from ..wire.hint import SILENT_TO_TLS, hint
from ..wire.redact import Redactor
from .dial import refused
from .stream import Stream, TlsOf, TlsStream, Unbegun, Unread, error_text


async def open_tunnel(
    route: Route,
    stream: Stream,
    tls: TlsOf,
    forwards: bool,
    limit: float,
    on_greeted: Callable[[], None] = lambda: None,
) -> Stream:
    """The stream on which the target of a route speaks, or its proxy where that ``forwards``.

    ``stream`` leads to the proxy. ``on_greeted`` is called when nothing but the question for the
    target is left. Raises ``Refused`` where the proxy declines, breaks off, or needs more than
    ``limit`` seconds.
    """
    handshake = _Handshake(route, tls)
    async with _judged(route, handshake, limit):
        return await handshake.run(stream, forwards, on_greeted)


async def greet(route: Route, stream: Stream, tls: TlsOf, limit: float) -> None:
    """Go as far as the proxy lets one without asking for a target: TLS to an https proxy, the
    method and the credentials of SOCKS5. Raises ``Refused`` as ``open_tunnel`` does."""
    handshake = _Handshake(route, tls)
    async with _judged(route, handshake, limit):
        await handshake.greet(stream)


@contextlib.asynccontextmanager
async def _judged(route: Route, handshake: "_Handshake", limit: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit):
            yield
    except http_connect.ConnectError as error:
        raise refused(route, _declined(error)) from error
    except socks5.Socks5Error as error:
        raise refused(route, answered_socks(error.text, error.reply, error.auth)) from error
    except TimeoutError as error:
        raise refused(route, handshake.told or handshake.silent(limit)) from error
    except OSError as error:
        broke = "the connection broke in the handshake: {why}"
        why = Sentence("hop_broke", broke, why=error_text(error))
        raise refused(route, handshake.told or broken(why)) from error


async def start_tls(
    route: Route, stream: TlsStream, whom: Literal["the proxy", "the target"]
) -> TlsStream:
    """Begin TLS, and return the stream. Raises ``Refused`` where that fails."""
    try:
        await stream.start()
    except (OSError, ValueError) as error:
        is_proxy = whom == "the proxy"
        told = hint(stream.first, "https") if is_proxy else None
        why = Sentence(
            "tls_target_failed", "TLS with the target failed: {why}", why=error_text(error)
        )
        if is_proxy:
            failed = "TLS with the proxy failed: {why}{hint}"
            said = error_text(error)
            why = Sentence("tls_proxy_failed", failed, why=said, hint=told or "")
        # A proxy that answers in the place of the target has no certificate for it.
        cause = Cause.BROKEN if is_proxy else Cause.UNDECIDED
        failure = unbegun(why) if isinstance(error, Unbegun) else broken(why, cause)
        raise refused(route, failure) from error
    return stream


def _declined(error: http_connect.ConnectError) -> HopFailure:
    return answered_connect(error.text, error.status, error.retry_after, error.error)


class _Handshake:
    def __init__(self, route: Route, tls: TlsOf) -> None:
        self._route, self._tls = route, tls
        self._account = route.proxy.username, route.proxy.password.get_secret_value()
        self._secure: TlsStream | None = None
        self._begun: http_connect.ConnectHandshake | socks5.Greeting | None = None

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

    async def run(self, stream: Stream, forwards: bool, on_greeted: Callable[[], None]) -> Stream:
        stream = await self._reach(stream)
        target = self._route.target
        if self._route.proxy.type == "socks5":
            handshake = socks5.Handshake(*target, *self._account)
            await self._ask(stream, handshake, handshake.start(), on_greeted)
            return Unread(stream, handshake.rest)
        on_greeted()
        if forwards:
            return stream
        connect = http_connect.ConnectHandshake(*target, Redactor(*self._account))
        await self._ask(stream, connect, http_connect.connect_request(*target, *self._account))
        return Unread(stream, connect.rest)

    async def greet(self, stream: Stream) -> None:
        stream = await self._reach(stream)
        if self._route.proxy.type == "socks5":
            greeting = socks5.Greeting(*self._account)
            await self._ask(stream, greeting, greeting.start())

    async def _reach(self, stream: Stream) -> Stream:
        """The stream on which the proxy speaks."""
        proxy = self._route.proxy
        if proxy.type != "https":
            return stream
        # The name stays the server name and is what the certificate is checked for.
        self._secure = TlsStream(stream, self._tls, proxy.host)
        return await start_tls(self._route, self._secure, "the proxy")

    async def _ask(
        self,
        stream: Stream,
        handshake: http_connect.ConnectHandshake | socks5.Greeting,
        first: bytes,
        on_greeted: Callable[[], None] = lambda: None,
    ) -> None:
        """Speak until the handshake is done."""
        self._begun = handshake
        await stream.send(first)
        asked = False
        while not handshake.done:
            data = await stream.receive()
            if not data:
                was_asked = not isinstance(handshake, socks5.Greeting) or asked
                raise refused(self._route, self.told or ended(was_asked))
            answer = handshake.receive(data)
            if isinstance(handshake, socks5.Handshake) and handshake.asked and not asked:
                asked = True
                on_greeted()
            if answer:
                await stream.send(answer)
