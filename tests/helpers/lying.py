"""Proxies that lie about their exits: they change or make up what an echo answers."""

import asyncio
import http.client
import json
from collections.abc import Callable
from typing import Any, Self

import h11

from tests.helpers.h11_stream import H11Stream
from tests.helpers.proxies import HttpProxy, ProxyRequest, Socks5Proxy
from tests.helpers.server import LabServer, Stream

Lie = Callable[[str, Callable[[str], Any]], Any]
"""Makes an answer to the path of a question. It may ask the echo itself, with a path."""
CLAIMED = "203.0.113.77"
"""The address that a liar claims as its exit."""


def invents(path: str, ask: Callable[[str], Any]) -> Any:
    return {"ip": CLAIMED}


def invents_a_signature(path: str, ask: Callable[[str], Any]) -> Any:
    return {"ip": CLAIMED, "nonce": path.partition("=")[2], "time": 1, "mac": "0" * 64}


def changes_the_address(path: str, ask: Callable[[str], Any]) -> Any:
    return {**ask(path), "ip": CLAIMED}


def asks_with_a_nonce_of_its_own(path: str, ask: Callable[[str], Any]) -> Any:
    return ask("/?nonce=" + "m" * 22)


def hides_its_own_nonce(path: str, ask: Callable[[str], Any]) -> Any:
    return {**ask("/?nonce=" + "m" * 22), "nonce": path.partition("=")[2]}


def drops_the_nonce(path: str, ask: Callable[[str], Any]) -> Any:
    return ask("/")


class Repeats:
    """Asks once, and repeats that answer for ever."""

    __name__ = "repeats"

    def __init__(self) -> None:
        self.kept: Any = None

    def __call__(self, path: str, ask: Callable[[str], Any]) -> Any:
        self.kept = self.kept or ask(path)
        return self.kept


class LyingProxy(HttpProxy):
    """Answers requests in absolute form by a lie; the echo is what they ask for."""

    def __init__(self, lie: Lie, **more: Any) -> None:
        super().__init__(**more)
        self.lie = lie

    async def _forward(self, client: H11Stream, request: h11.Request, asked: ProxyRequest) -> None:
        await client.body()
        await client.answer(200, body=await answer(self.lie, request.target.decode()))


class Liar(LabServer):
    """Answers in the place of the echo, which the header ``Host`` names."""

    def __init__(self, lie: Lie) -> None:
        super().__init__()
        self._lie = lie

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = H11Stream(h11.SERVER, reader, writer)
        request = await stream.head(h11.Request)
        url = f"http://{dict(request.headers)[b'host'].decode()}{request.target.decode()}"
        await stream.answer(200, body=await answer(self._lie, url))


class RedirectingProxy(Socks5Proxy):
    """Leads every tunnel to a liar in the place of the target."""

    def __init__(self, lie: Lie, **more: Any) -> None:
        super().__init__(**more)
        self._liar = Liar(lie)

    async def __aenter__(self) -> Self:
        await self._liar.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        await self._liar.__aexit__(*exc)

    async def dial(self, host: str, port: int) -> Stream:
        return await asyncio.open_connection(*self._liar.address)


async def answer(lie: Lie, url: str) -> bytes:
    """What a liar says to a URL of the echo."""
    place, _, path = url.removeprefix("http://").partition("/")
    host, _, port = place.rpartition(":")

    def ask(path: str) -> Any:
        return json.loads(_fetched(host.strip("[]"), int(port), path))

    return json.dumps(await asyncio.to_thread(lie, f"/{path}", ask)).encode()


def _fetched(host: str, port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()
