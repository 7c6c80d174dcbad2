"""HTTP/3 on loopback: an origin that answers with JSON, and a client for one request."""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from tests.helpers.certs import authority
from tests.helpers.clients import Response
from tests.helpers.origin import NAMES
from tests.helpers.server import family_of


class Http3Origin:
    """`requests` lists the path and the peer's family (4 or 6) of each request."""

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.requests: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
        leaf = authority().leaf(*NAMES)
        configuration.load_cert_chain(leaf, leaf)
        self._server = await serve(
            self.host,
            0,
            configuration=configuration,
            create_protocol=lambda *given, **named: _Answering(self, *given, **named),
        )
        assert self._server._transport
        self.port = self._server._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()  # type: ignore[no-untyped-call]
        await asyncio.sleep(0)


class _Speaking(QuicConnectionProtocol):
    """Turns QUIC events into HTTP/3 events."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._http = H3Connection(self._quic)

    def quic_event_received(self, event: QuicEvent) -> None:
        for happened in self._http.handle_event(event):
            self.happened(happened)

    def happened(self, event: H3Event) -> None:
        raise NotImplementedError


class _Answering(_Speaking):
    def __init__(self, origin: Http3Origin, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._origin = origin

    def happened(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived):
            return
        peer = self._quic._network_paths[0].addr[0]
        path = dict(event.headers)[b":path"].decode()
        self._origin.requests.append({"path": path, "family": family_of(peer)})
        body = json.dumps(self._origin.requests[-1]).encode()
        self._http.send_headers(event.stream_id, [(b":status", b"200")])
        self._http.send_data(event.stream_id, body, end_stream=True)
        self.transmit()


class _Asking(_Speaking):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._headers: dict[str, str] = {}
        self._body = b""
        self._answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    async def get(self, authority: str, path: str) -> Response:
        stream = self._quic.get_next_available_stream_id()
        fields = {":method": "GET", ":scheme": "https", ":authority": authority, ":path": path}
        headers = [(name.encode(), value.encode()) for name, value in fields.items()]
        self._http.send_headers(stream, headers, end_stream=True)
        self.transmit()
        return await self._answer

    def happened(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self._headers = {name.decode(): value.decode() for name, value in event.headers}
        if isinstance(event, DataReceived):
            self._body += event.data
        if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended:
            status = int(self._headers.pop(":status"))
            self._answer.set_result(Response(status, self._headers, self._body))


async def http3_get(port: int, ca: Path, name: str, path: str = "/") -> Response:
    """One GET to an HTTP/3 server on loopback that has a certificate for `name`."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=name)
    configuration.load_verify_locations(str(ca))
    async with (
        asyncio.timeout(10),
        connect("127.0.0.1", port, configuration=configuration, create_protocol=_Asking) as client,
    ):
        assert isinstance(client, _Asking)
        return await client.get(name, path)
