"""The guard: whatever the policy did not mint is not dialled, with or without the other addons.

It is added to the chain once and stays there when the script is reloaded, breaks or disappears:
then nobody answers the layers' questions, and every flow is refused instead of going direct.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from mitmproxy import connection, ctx
from mitmproxy.proxy import server_hooks

from ...service import Route
from .. import seams
from ..dialer import Hop
from ..hooks import ConnectRequest, FlowRequest

logger = logging.getLogger(__name__)

REFUSED = "egress: this connection was not assigned by the policy (fail-closed)"


class EgressGuard:
    """Refuses unminted connections, bounds the time of minted ones, and can cut them."""

    name = "egressguard"

    def __init__(self) -> None:
        self._timers: dict[Hop, asyncio.TimerHandle] = {}
        self._live: dict[Hop, asyncio.Task[None]] = {}
        self.is_current: Callable[[Route], bool] = lambda _: True
        """Whether a route may still be dialled; said by whoever knows the policy."""

    def load(self, loader: object) -> None:  # noqa: ARG002 (mitmproxy passes it)
        seams.install(self.decide)

    def client_connected(self, client: connection.Client) -> None:
        try:
            handlers = ctx.master.addons.get("proxyserver").connections
            handler = handlers.get(client.id)
            if handler is None:  # UDP clients are listed by address
                handler = next(h for h in handlers.values() if h.client is client)
            seams.wrap(handler)
        except Exception:
            client.error = REFUSED
            logger.exception("Egress: cannot guard a connection; it is closed")

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        try:
            admitted = self._admit(data.server)
        except Exception:
            admitted = False
            logger.exception("Egress: cannot check a connection; it is refused")
        if not admitted:
            data.server.error = REFUSED

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._disarm(data.server)

    def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._forget(data.server)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._live.pop(data.server, None)  # type: ignore[call-overload]

    def done(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        seams.restore()

    def decide(self, request: FlowRequest | ConnectRequest) -> None:
        """Put the question to the addon that knows the policy, if it is there."""
        select = ctx.master.addons.get("egressselect")
        if select is not None:
            select.decide(request)

    def cut_stale(self) -> None:
        """Cut the live connections whose route is no longer current."""
        self.cut(lambda route: not self.is_current(route))

    def cut(self, concerns: Callable[[Route], bool]) -> int:
        """Cut the live connections whose route it ``concerns``, and say how many."""
        count = 0
        for hop, task in list(self._live.items()):
            if not concerns(hop.route):
                continue
            count += 1
            hop.cut = True
            # One that waits for its turn (see ``_arm``), or for hooks to be told that it is open,
            # cannot be cancelled: the dialler looks.
            if hop.reported or (hop.timestamp_start is not None and not hop.connected):
                task.cancel("egress policy changed")
        return count

    def _admit(self, hop: connection.Server) -> bool:
        if not isinstance(hop, Hop):
            return False
        if hop.address != hop.minted and not hop.route.is_stock:
            return False  # rewritten by another addon
        task = asyncio.current_task()
        if task is None or not self.is_current(hop.route):
            hop.cut = True
            return False
        self._live[hop] = task
        # Not every end has a hook: a client may go while the connection waits for its turn.
        task.add_done_callback(lambda _: self._forget(hop))
        if not hop.route.is_stock:  # mitmproxy has no limit of its own
            self._arm(hop, task, hop.timeout)
        return True

    def _arm(self, hop: Hop, task: asyncio.Task[None], delay: float) -> None:
        def expire() -> None:
            if hop.state is not connection.ConnectionState.CLOSED:
                return
            # mitmproxy opens five connections to an address at a time; while one waits for its
            # turn it has no start, and cancelling it there would leave its layer without answer.
            started = hop.timestamp_start
            left = hop.timeout if started is None else started + hop.timeout - time.time()
            if left > 0:
                self._arm(hop, task, left)
            else:
                hop.timed_out = True
                task.cancel("egress connect timeout")

        self._timers[hop] = asyncio.get_running_loop().call_later(max(delay, 0.01), expire)

    def _forget(self, server: connection.Server) -> None:
        self._disarm(server)
        self._live.pop(server, None)  # type: ignore[call-overload]

    def _disarm(self, server: connection.Server) -> None:
        timer = self._timers.pop(server, None)  # type: ignore[call-overload]
        if timer:
            timer.cancel()
