"""A nameserver on the loopback that says what a test tells it to, the truth or not.

::

    zone = {
        ("proxy.example", "AAAA"): ["2001:db8::1"],
        ("proxy.example", "A"): ["30 CNAME edge.example", "300 203.0.113.7"],
        ("gone.example", "A"): Reply(rcode="SERVFAIL"),
        ("liar.example", "AAAA"): ["203.0.113.7"],
    }
    async with Nameserver(zone) as nameserver:
        DnsResolver([nameserver.address])

A record is ``[ttl] address`` or ``[ttl] CNAME target``; the type is that of the address, whatever
was asked. A name of which the zone has another type has no data, any other name is NXDOMAIN.
"""

import asyncio
import ipaddress
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, SOA, A, DNSRecord

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Reply:
    """The answer to a question, apart from plain records.

    ``soa_minimum`` puts an SOA in the authority section; ``gate`` holds the reply back until it is
    set; ``packets`` turns the honest message into what is sent instead.
    """

    records: Sequence[str] = ()
    rcode: str = "NOERROR"
    soa_minimum: int | None = None
    silent: bool = False
    truncated_over_udp: bool = False
    gate: asyncio.Event | None = None
    packets: Callable[[bytes], Sequence[bytes]] = lambda message: (message,)


Zone = Mapping[tuple[str, str], Reply | Sequence[str]]


class Nameserver:
    """Serves ``zone`` over UDP and TCP on one port, and over TLS on another if ``tls`` is given.
    ``port`` 0 takes a free port.

    ``queries`` counts every question by name and type, ``transports`` by "udp", "tcp" and "tls".
    Each question sets ``arrived``.
    """

    def __init__(
        self, zone: Zone, tls: ssl.SSLContext | None = None, host: str = HOST, port: int = 0
    ) -> None:
        self.zone = zone
        self.host = host
        self.port = port
        self.queries: Counter[tuple[str, str]] = Counter()
        self.transports: Counter[str] = Counter()
        self.arrived = asyncio.Event()
        self._tls = tls
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._servers = [await self._bind()]
        self.address = f"{self.host}:{self.port}"
        if self._tls:
            server = await asyncio.start_server(self._serve("tls"), self.host, 0, ssl=self._tls)
            self.tls_address = f"tls://{self.host}:{server.sockets[0].getsockname()[1]}"
            self._servers.append(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    async def reply(self, query: bytes, transport: str) -> Sequence[bytes]:
        """The messages to send for an incoming message, once the gate of the reply is open."""
        record = DNSRecord.parse(query)
        name, kind = str(record.q.qname).rstrip(".").lower(), QTYPE[record.q.qtype]
        self.queries[name, kind] += 1
        self.transports[transport] += 1
        self.arrived.set()
        reply = self._find(name, kind)
        if reply.gate:
            await reply.gate.wait()
        if reply.silent:
            return ()
        answer = record.reply()
        answer.header.rcode = getattr(RCODE, reply.rcode)
        if reply.truncated_over_udp and transport == "udp":
            answer.header.tc = 1
        else:
            answer.add_answer(*_records(name, reply.records))
        if reply.soa_minimum is not None:
            times = (1, 3600, 600, 86400, reply.soa_minimum)
            answer.add_auth(RR(".", QTYPE.SOA, rdata=SOA("ns.", "root.", times), ttl=86400))
        return reply.packets(answer.pack())

    def keep(self, work: asyncio.Task[Any]) -> None:
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)

    async def _bind(self) -> asyncio.Server:
        loop, stated = asyncio.get_running_loop(), self.port
        while True:
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(self.host, stated)
            )
            self.port = self._udp.get_extra_info("sockname")[1]
            try:
                return await asyncio.start_server(self._serve("tcp"), self.host, self.port)
            except OSError:  # that port is somebody's over TCP
                self._udp.close()
                if stated:
                    raise

    def _find(self, name: str, kind: str) -> Reply:
        known = any(name == other for other, _ in self.zone)
        found = self.zone.get((name, kind), Reply(rcode="NOERROR" if known else "NXDOMAIN"))
        return found if isinstance(found, Reply) else Reply(found)

    def _serve(self, transport: str) -> Callable[..., None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while size := await reader.read(2):
                    query = await reader.readexactly(int.from_bytes(size))
                    for message in await self.reply(query, transport):
                        writer.write(len(message).to_bytes(2) + message)
            except ConnectionError:
                pass  # the resolver has hung up, which is its right
            finally:
                writer.transport.abort()

        return lambda *streams: self.keep(asyncio.create_task(serve(*streams)))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, nameserver: Nameserver) -> None:
        self._nameserver = nameserver

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._nameserver.keep(asyncio.create_task(self._answer(data, address)))

    async def _answer(self, data: bytes, address: Any) -> None:
        for message in await self._nameserver.reply(data, "udp"):
            self._transport.sendto(message, address)


def _records(owner: str, lines: Sequence[str]) -> list[RR]:
    records = []
    for line in lines:
        words = line.split()
        ttl = int(words.pop(0)) if words[0].isdigit() else 60
        if words[0] == "CNAME":
            records.append(RR(owner, QTYPE.CNAME, rdata=CNAME(words[1]), ttl=ttl))
            owner = words[1]
        elif ":" in words[0]:
            address = tuple(ipaddress.IPv6Address(words[0]).packed)
            records.append(RR(owner, QTYPE.AAAA, rdata=AAAA(address), ttl=ttl))
        else:
            records.append(RR(owner, QTYPE.A, rdata=A(words[0]), ttl=ttl))
    return records
