"""Reads the traffic of links byte by byte: every packet that a host sends or receives on them."""

import contextlib
import socket
import struct
from collections import defaultdict
from ipaddress import ip_address
from typing import Self

from tests.lab.counters import Place
from tests.lab.hosts import Host

_ALL, _ROOM = 3, 2**26  # ETH_P_ALL; bytes that may wait to be read
_SOL_PACKET, _STATISTICS, _SO_RCVBUFFORCE = 263, 6, 33
_HEADS = {socket.IPPROTO_TCP: 20, socket.IPPROTO_UDP: 8}  # bytes, at least


class Wiretap:
    """Reads from ``__enter__`` on, only on ``links`` of ``host``, which the test has made.

    Packets from one place to another are joined, so that nothing hides between two packets.
    """

    def __init__(self, host: Host, *links: str) -> None:
        self._host, self._links = host, links
        self._said: defaultdict[tuple[Place, Place], bytearray] = defaultdict(bytearray)
        self.lost = 0
        """Packets that were lost for lack of room."""

    def __enter__(self) -> Self:
        with self._host.entered(), contextlib.ExitStack() as stack:
            self._taps = []
            for link in self._links:
                tap = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
                tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
                tap.setblocking(False)
                tap.bind((link, _ALL))
                self._taps.append(tap)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self) -> None:
        """Read the packets since the last call."""
        for tap in self._taps:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._take(tap.recv(2**17))
            _, lost = struct.unpack("II", tap.getsockopt(_SOL_PACKET, _STATISTICS, 8))
            self.lost += lost  # the kernel begins anew with each answer

    def told(self, words: bytes) -> set[Place]:
        """The places to which these bytes were sent."""
        return {to for (_, to), said in self._said.items() if words in said}

    def _take(self, packet: bytes) -> None:
        if (flow := _addressed(packet)) is not None:
            sender, to, payload = flow
            self._said[sender, to] += payload


def _addressed(packet: bytes) -> tuple[Place, Place, bytes] | None:
    """Source, destination and payload. Protocols without ports have port 0; ``None`` if not IP."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        end, protocol = struct.unpack_from("!2xH5xB", packet)
        addresses, start = (packet[12:16], packet[16:20]), (packet[0] & 15) * 4
    elif version == 6 and len(packet) >= 40:
        end, protocol = struct.unpack_from("!4xHB", packet)
        addresses, start, end = (packet[8:24], packet[24:40]), 40, end + 40
    else:
        return None
    payload, ports = packet[start:end], (0, 0)
    if 0 < _HEADS.get(protocol, 0) <= len(payload):
        ports = struct.unpack_from("!HH", payload)
        head = (payload[12] >> 4) * 4 if protocol == socket.IPPROTO_TCP else 8
        payload = payload[head:]
    sender, to = ((str(ip_address(raw)), port) for raw, port in zip(addresses, ports, strict=True))
    return sender, to, payload
