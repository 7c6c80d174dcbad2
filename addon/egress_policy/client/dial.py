"""One TCP connection to a proxy, over the addresses of its pin and nothing else.

What the proxy's dialler does for flows, for connections that no flow asks for.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Reason
from ..model.decision import Pin, Refusal
from ..model.host import canonical_ip, detect_ip_literal_family
from ..model.proxy import Proxy
from ..policy.attempts import AT_ONCE, CONNECT_TIMEOUT, SHORTAGE, SHORTAGES, STAGGER

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
Connected = tuple[socket.socket, tuple[Any, ...], Address]
"""A socket, its peer, and what was dialled."""


class Refused(Exception):
    """What cannot be had, and why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class ProbeHop:
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


def addresses_of(hop: ProbeHop) -> list[Address]:
    """Those of the pin, as the system dials them. Asks nobody."""
    return [
        (family, place)
        for literal in hop.pin.addresses
        for family, _, _, _, place in socket.getaddrinfo(
            literal, hop.proxy.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    ]


class _Shortage(Exception):
    """There is no descriptor for a socket."""


async def dial(
    hop: ProbeHop, limit: float, overall: float = CONNECT_TIMEOUT, stagger: float = STAGGER
) -> socket.socket:
    """A socket that is connected to the address that accepts first, each within ``limit`` seconds
    and begun ``stagger`` seconds after the one before, or when that has failed; all within
    ``overall`` seconds, and a few at a time.

    Raises ``Refused``: for the last address that failed, and at once for a peer that is not the one
    that was dialled or of another family.
    """
    refused = hop.refused(Reason.CONNECT_REFUSED, "there is no address to dial")
    addresses, deadline = deque(addresses_of(hop)), time.monotonic() + overall
    attempts: set[asyncio.Task[Connected]] = set()
    try:
        while True:
            left = deadline - time.monotonic()
            if addresses and left > 0 and len(attempts) < AT_ONCE:
                one = _connect(hop, addresses.popleft(), min(limit, left))
                attempts.add(asyncio.create_task(one))
            if not attempts:
                raise refused
            more = addresses and len(attempts) < AT_ONCE
            ended, attempts = await asyncio.wait(
                attempts,
                timeout=stagger if more else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in ended:
                error = attempt.exception()
                if isinstance(error, _Shortage):
                    addresses.clear()  # none of them could be dialled
                    refused = hop.refused(Reason.ERROR, SHORTAGE)
                elif isinstance(error, Refused):
                    refused = error
                else:
                    attempts |= ended - {attempt}
                    return _checked(hop, attempt.result())
    finally:
        await _give_up(attempts)


async def _give_up(attempts: "set[asyncio.Task[Connected]]") -> None:
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, tuple):
            outcome[0].close()


def _checked(hop: ProbeHop, connected: Connected) -> socket.socket:
    sock, peer, address = connected
    try:
        require_peer(hop, address[1][0], peer, sock.getsockname()[0])
    except BaseException:
        sock.close()
        raise
    return sock


def require_peer(hop: ProbeHop, minted: str, peer: tuple[Any, ...], local: str) -> None:
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


async def _connect(hop: ProbeHop, address: Address, limit: float) -> Connected:
    family, place = address
    where = f"{place[0]} port {place[1]}"
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise _Shortage from error
        text = f"cannot connect to {where}: {os_text(error)}"
        raise hop.refused(Reason.CONNECT_REFUSED, text) from error
    try:
        sock.setblocking(False)
        async with asyncio.timeout(limit):
            await asyncio.get_running_loop().sock_connect(sock, place)
        return sock, sock.getpeername(), address
    except TimeoutError as error:
        sock.close()
        text = f"no answer from {where} within {limit:.3g} s"
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
