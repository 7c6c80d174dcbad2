"""One TCP connection to a proxy, over the addresses of its pin and nothing else.

It does for connections that no flow asks for what the proxy's dialler does for those of flows.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ..errors import Reason
from ..model.decision import Place, Refusal, Route
from ..policy.hop import (
    AT_ONCE,
    CONNECT_TIMEOUT,
    OUT_OF_DESCRIPTORS,
    STAGGER,
    HopFailure,
    Outcome,
    loop_back,
    of_refusal,
    unanswered,
    unconnected,
    wrong_peer,
)
from ..sentence import Sentence

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
Connected = tuple[socket.socket, str, Place, str]
"""A socket, the address that was dialled, the peer, and the local address."""

OnDial = Callable[[Outcome], None]

_NOTHING_TO_DIAL: Final = HopFailure(
    Reason.CONNECT_REFUSED, Sentence("hop_no_address", "there is no address to dial")
)


def unheeded(_outcome: Outcome) -> None:
    """Takes no notice of a dial."""


class Refused(Exception):
    """A connection or an answer cannot be had. ``refusal`` and ``failure`` say why."""

    def __init__(self, refusal: Refusal, failure: HopFailure) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal
        self.failure = failure


def refused(route: Route, failure: HopFailure) -> Refused:
    """The exception for a failure of the hop of a route."""
    return Refused(failure.refusal(route), failure)


def addresses_of(route: Route) -> list[Address]:
    """The addresses of the pin, as the system dials them. No look-up is made."""
    return [
        (family, place)
        for literal in route.pin.addresses
        for family, _, _, _, place in socket.getaddrinfo(
            literal, route.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    ]


async def dial(
    route: Route,
    limit: float,
    overall: float = CONNECT_TIMEOUT,
    stagger: float = STAGGER,
    on_dial: OnDial = unheeded,
) -> socket.socket:
    """A socket connected to the address that accepts first.

    Each address has ``limit`` seconds, and is begun ``stagger`` seconds after the one before, or
    when that has failed; a few are tried at the same time, and all within ``overall`` seconds.
    ``on_dial`` is called with what came of each; times are those of ``time.monotonic``.
    Raises ``Refused``: for the last address that failed, and at once for a wrong peer.
    """
    failure, deadline = _NOTHING_TO_DIAL, time.monotonic() + overall
    addresses = deque(addresses_of(route))
    attempts: set[asyncio.Task[Connected | HopFailure]] = set()
    try:
        while True:
            left = deadline - time.monotonic()
            if addresses and left > 0 and len(attempts) < AT_ONCE:
                attempt = _reported(addresses.popleft(), min(limit, left), on_dial)
                attempts.add(asyncio.create_task(attempt))
            if not attempts:
                raise refused(route, failure)
            more = addresses and len(attempts) < AT_ONCE
            ended, attempts = await asyncio.wait(
                attempts,
                timeout=stagger if more else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in ended:
                outcome = task.result()
                if not isinstance(outcome, HopFailure):
                    attempts |= ended - {task}
                    return _checked(route, outcome)
                failure = outcome
                if failure is OUT_OF_DESCRIPTORS:
                    addresses.clear()
    finally:
        await _give_up(attempts)


def peer_of(route: Route, sock: socket.socket) -> str:
    """The address that a socket of ``dial`` is connected to. Raises ``Refused`` if the peer has
    reset the connection meanwhile."""
    try:
        return str(sock.getpeername()[0])
    except OSError as error:
        failure = unconnected(*route.hop, error.errno, str(error))
        raise refused(route, failure) from error


async def _give_up(attempts: "set[asyncio.Task[Connected | HopFailure]]") -> None:
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, tuple):
            outcome[0].close()


def _checked(route: Route, connected: Connected) -> socket.socket:
    """The socket, unless its peer is not what was dialled, or is this process itself."""
    sock, dialled, peer, local = connected
    if failure := wrong_peer(dialled, peer[0], route.pin.family):
        sock.close()
        raise refused(route, failure)
    if refusal := loop_back(route, peer, local):
        sock.close()
        raise Refused(refusal, of_refusal(refusal))
    return sock


async def _reported(address: Address, seconds: float, on_dial: OnDial) -> Connected | HopFailure:
    began = time.monotonic()
    connected = await _connect(address, seconds)
    failure = connected if isinstance(connected, HopFailure) else None
    on_dial(Outcome("dial", address[1][0], failure, began, time.monotonic()))
    return connected


async def _connect(address: Address, seconds: float) -> Connected | HopFailure:
    family, place = address
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return unconnected(place[0], place[1], error.errno, str(error))
    try:
        sock.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, place)
        return sock, place[0], sock.getpeername()[:2], sock.getsockname()[0]
    except OSError as error:
        sock.close()
        if isinstance(error, TimeoutError) and error.errno is None:  # not the system's own
            return unanswered(place[0], place[1], seconds)
        return unconnected(place[0], place[1], error.errno, str(error))
    except BaseException:
        sock.close()
        raise
