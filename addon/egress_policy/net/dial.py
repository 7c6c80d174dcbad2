"""One TCP connection to a proxy, over the addresses of its pin and nothing else.

The same as the proxy's dialler does for flows, for connections that no flow asks for. DNS is asked
only for a hop that is not pinned, by the system, as it is for flows.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Reason
from ..model.decision import Refusal
from ..model.host import canonical_ip, detect_ip_literal_family
from ..model.proxy import Proxy
from ..policy.preflight import Pin

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class Refused(Exception):
    """What cannot be had, and why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Hop:
    """A proxy, the addresses to dial for it, and the target as it is asked for it.

    ``loop_back`` says by peer and local address why a connection must not be used: it has reached
    this process itself.
    """

    proxy: Proxy
    pin: Pin
    target: tuple[str, int]
    loop_back: Callable[[tuple[str, int], str], Refusal | None] = lambda _peer, _local: None

    def refused(self, reason: Reason, what: str) -> Refused:
        """What to raise; ``what`` is free of credentials."""
        proxy = self.proxy
        detail = f"Proxy {proxy.name}: {what}"
        return Refused(Refusal(reason, detail, proxy.name, proxy.family, proxy.host))


async def addresses_of(hop: Hop) -> list[Address]:
    """Those of the pin; of a name that is not pinned those that the system finds.

    Raises ``Refused``.
    """
    loop = asyncio.get_running_loop()
    found: list[Address] = []
    for host in hop.pin.addresses:
        flags = socket.AI_NUMERICHOST if canonical_ip(host) else 0  # asks nobody
        try:
            answer = await loop.getaddrinfo(
                host, hop.proxy.port, type=socket.SOCK_STREAM, flags=flags
            )
        except OSError as error:
            text = f"DNS resolution failed for {host}: {error.strerror}"
            raise hop.refused(Reason.DNS_FAILURE, text) from error
        found += [(family, place) for family, _, _, _, place in answer]
    return found


async def dial(hop: Hop, addresses: list[Address], limit: float) -> socket.socket:
    """A socket that is connected to the first address that accepts, each within ``limit`` seconds.

    Raises ``Refused``: for the last address tried, and at once for a peer that is not the one
    that was dialled or of another family.
    """
    refused = hop.refused(Reason.CONNECT_REFUSED, "there is no address to dial")
    for address in addresses:
        try:
            sock, peer = await _connect(hop, address, limit)
        except Refused as error:
            refused = error
            continue
        try:
            require_peer(hop, address[1][0], peer, sock.getsockname()[0])
        except Refused:
            sock.close()
            raise
        return sock
    raise refused


def require_peer(hop: Hop, minted: str, peer: tuple[Any, ...], local: str) -> None:
    """Raises ``Refused`` unless ``peer`` is what was dialled, and not this process itself."""
    actual, meant = _plain(peer[0]), _plain(minted)
    family = detect_ip_literal_family(actual)
    if actual != meant or hop.pin.family not in (None, family):
        text = f"connected to {actual} where {meant} was pinned"
        raise hop.refused(Reason.PEER_MISMATCH, text)
    if refusal := hop.loop_back((actual, peer[1]), _plain(local)):
        raise Refused(refusal)


def os_text(error: OSError) -> str:
    """What the system says, without what it was asked."""
    return os.strerror(error.errno) if error.errno else str(error)


async def _connect(
    hop: Hop, address: Address, limit: float
) -> tuple[socket.socket, tuple[Any, ...]]:
    family, place = address
    where = f"{place[0]} port {place[1]}"
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(limit):
            await asyncio.get_running_loop().sock_connect(sock, place)
        return sock, sock.getpeername()
    except TimeoutError as error:
        sock.close()
        text = f"no answer from {where} within {limit:g} s"
        raise hop.refused(Reason.CONNECT_TIMEOUT, text) from error
    except OSError as error:
        sock.close()
        text = f"cannot connect to {where}: {os_text(error)}"
        raise hop.refused(Reason.CONNECT_REFUSED, text) from error
    except BaseException:
        sock.close()
        raise


def _plain(address: str) -> str:
    """To compare: the system may leave out the scope id."""
    plain = address.partition("%")[0]
    return canonical_ip(plain) or plain
