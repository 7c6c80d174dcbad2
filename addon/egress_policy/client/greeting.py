"""The greeting of a proxy: how far one comes without asking it for a target, and what that costs.

It connects over the pinned hop, begins TLS with an https proxy and checks its certificate, and
agrees with a SOCKS5 proxy on the method and the credentials. Nothing of a target leaves.
"""

import time
from collections.abc import Callable

from ..model.decision import Route
from ..policy.hop import Outcome
from .dial import OnDial, Refused, dial, peer_of, unheeded
from .probe import STANDARD, ProbeLimits
from .stream import SocketStream, TlsOf, without_tls
from .tunnel import greet


async def greeting(
    route: Route,
    tls: TlsOf = without_tls,
    limits: ProbeLimits = STANDARD,
    clock: Callable[[], float] = time.monotonic,
    on_dial: OnDial = unheeded,
) -> Outcome:
    """Greet the proxy of ``route``. ``tls`` is for an https proxy, ``on_dial`` as for ``dial``.

    The outcome is that of an attempt, and ``clock`` is the one of its times. Raises nothing for
    what the network does.
    """
    began, address = clock(), next(reversed(route.pin.addresses), "")
    try:
        dialled = dial(route, limits.address, limits.connect, on_dial=on_dial)
        with await dialled as sock:
            address = peer_of(route, sock)
            await greet(route, SocketStream(sock), tls, limits.handshake)
    except Refused as error:
        return Outcome("attempt", address, error.failure, began, clock())
    ended = clock()
    return Outcome("attempt", address, None, began, ended, ended - began)
