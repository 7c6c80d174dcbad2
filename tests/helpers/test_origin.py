"""The lab's origins report what reached them."""

import asyncio

import pytest
from websockets.asyncio.client import connect as websocket

from tests.helpers.certs import authority, client_context
from tests.helpers.clients import wire
from tests.helpers.origin import Origin, TcpEcho, UdpEcho, WebSocketOrigin, tls_context


async def test_origin_tells_connections_apart_and_keeps_them() -> None:
    async with Origin() as origin:
        async with wire(origin.port) as client:
            answers = [await client.request("GET", "/a", "x.test") for _ in range(2)]
            closing = await client.request("GET", "/close", "x.test")
            assert await client.closed() == b""
        async with wire(origin.port) as client:
            answers.append(await client.request("POST", "/b", "x.test", [("A", "b")], b"body"))
    assert [answer.json["connection"] for answer in answers] == [1, 1, 2]
    assert closing.headers["connection"] == "close"
    assert answers[2].json == {
        "method": "POST",
        "path": "/b",
        "headers": {"host": "x.test", "a": "b", "content-length": "4"},
        "body": "body",
        "connection": 2,
        "family": 4,
    }
    assert (origin.accepted, len(origin.requests)) == (2, 4)


async def test_origin_streams_holds_and_gives_any_status() -> None:
    async with Origin(host="::1") as origin, wire(origin.port, "::1") as client:
        stream = await client.request("GET", "/stream?chunks=3&size=1000", "x.test")
        assert (len(stream.body), stream.headers["transfer-encoding"]) == (3000, "chunked")
        assert (await client.request("GET", "/status/404", "x.test")).status == 404
        held = asyncio.create_task(client.request("GET", "/hold", "x.test"))
        await origin.until(lambda: len(origin.requests) == 3)
        assert not held.done()
        origin.release.set()
        assert (await held).json["family"] == 6


async def test_origin_cuts_its_connections() -> None:
    async with TcpEcho(banner=b"hello") as echo, wire(echo.port) as client:
        await client.receive(5)
        echo.drop_connections()
        assert await client.closed() == b""


@pytest.mark.parametrize("secure", [False, True])
async def test_websocket_origin_echoes(secure: bool) -> None:
    context = client_context(authority().ca_path) if secure else None
    async with (
        WebSocketOrigin(tls=tls_context() if secure else None) as origin,
        websocket(origin.url(path="/chat"), ssl=context, proxy=None) as client,
    ):
        await client.send("hello")
        assert await client.recv() == "hello"
    assert origin.paths == ["/chat"]


async def test_udp_echo_answers() -> None:
    class Client(asyncio.DatagramProtocol):
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.answer.set_result(data)

    loop = asyncio.get_running_loop()
    async with UdpEcho(host="::1") as echo:
        transport, client = await loop.create_datagram_endpoint(
            Client, remote_addr=(echo.host, echo.port)
        )
        transport.sendto(b"ping")
        assert await client.answer == b"ping"
        transport.close()
    assert echo.families == [6]
