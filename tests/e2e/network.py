"""A private network with only a loopback interface, and a counter of its packets.

The namespace has no name: it ends with the last process in it.
"""

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import NamedTuple, Self

import pytest

from tests.e2e.system import find

_ALL_PROTOCOLS = socket.htons(0x0003)
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_OUTGOING = 263, 6, 4
_ATTACH_FILTER, _BPF_RETURN = 26, 0x06
_SYN, _ACK = 0x02, 0x10


@contextmanager
def network(*addresses: str) -> Iterator[None]:
    """Put this thread, and what it starts, into a namespace with ``addresses`` on its loopback."""
    ip = find("ip")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        try:
            os.unshare(os.CLONE_NEWNET)
        except OSError as error:
            pytest.skip(f"not permitted to make a network namespace (needs CAP_SYS_ADMIN): {error}")
        try:
            subprocess.run([ip, "link", "set", "lo", "up"], check=True)
            for address in addresses:
                subprocess.run([ip, "address", "add", address, "dev", "lo"], check=True)
            yield
        finally:
            os.setns(home, os.CLONE_NEWNET)
    finally:
        os.close(home)


@contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """Silently drop everything that is sent there: a filter on the socket lets nothing in."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(nothing))
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
        sock.bind((host, port))
        sock.listen()
        yield


class Packet(NamedTuple):
    """A packet that was sent; ``syn`` asks for a TCP connection."""

    family: int
    address: str
    syn: bool


class PacketCounter:
    """Sees every IP packet that is sent in the namespace in which it was entered.

    It leaves out packets to 127.0.0.0/8 and ::1, where the lab talks to itself.
    """

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, _ALL_PROTOCOLS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 2**20)
        self._socket.setblocking(False)
        self._sent: list[Packet] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def sent(self) -> list[Packet]:
        """All packets so far, in order."""
        while True:
            try:
                data, (_, _, kind, *_) = self._socket.recvfrom(65536)
            except BlockingIOError:
                break
            packet = _parse(data)
            if kind == _PACKET_OUTGOING and packet and not ip_address(packet.address).is_loopback:
                self._sent.append(packet)
        _, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert not lost, f"{lost} packets were not counted"
        return self._sent

    @property
    def families(self) -> set[int]:
        """The addresses of all packets."""
        return {packet.family for packet in self.sent}

    @property
    def called(self) -> set[str]:
        """The addresses to which a TCP connection was asked for."""
        return {packet.address for packet in self.sent if packet.syn}


def _parse(data: bytes) -> Packet | None:
    if data[0] >> 4 == 4:
        family, protocol, address = 4, data[9], socket.inet_ntop(socket.AF_INET, data[16:20])
        payload = data[(data[0] & 0x0F) * 4 :]
    elif data[0] >> 4 == 6:
        family, protocol, address = 6, data[6], socket.inet_ntop(socket.AF_INET6, data[24:40])
        payload = data[40:]
    else:
        return None
    syn = protocol == socket.IPPROTO_TCP and payload[13] & (_SYN | _ACK) == _SYN
    return Packet(family, address, syn)
