"""The guard: admits minted connections, within their time, and only while their route is
current."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import connection
from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from egress_policy import default_addons
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.proxy import Proxy
from egress_policy.proxy import seams
from egress_policy.proxy.addons.guard import REFUSED, EgressGuard, stand_guard
from egress_policy.proxy.dialer import MintedServer
from tests.helpers.clients import ConnectRefused, connect, http_get
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.playbook import addons, proxyserver
from tests.helpers.scene import egress, write_policy

ROUTE = Route(
    Choice(Egress(Proxy(name="exit", host="proxy.test"), "ipv4")),
    Pin(("192.0.2.1", "192.0.2.2"), 4),
    ("origin.test", 443),
)


@pytest.fixture(autouse=True)
def nobody_connected() -> Iterator[None]:
    with proxyserver():
        yield


def hop(timeout: float = 60, rewritten: tuple[str, int] | None = None) -> MintedServer:
    made = MintedServer(ROUTE, ("192.0.2.1", 8080), timeout)
    made.address = rewritten or made.address
    return made


def about(server: connection.Server) -> ServerConnectionHookData:
    return ServerConnectionHookData(server, tflow.tclient_conn())


class Attempt:
    """mitmproxy's task that opens a connection and then serves it."""

    def __init__(self, guard: EgressGuard, server: connection.Server) -> None:
        self.server = server
        self._asked = asyncio.Event()
        self.task = asyncio.create_task(self._run(guard))

    async def _run(self, guard: EgressGuard) -> None:
        guard.server_connect(about(self.server))
        self._asked.set()
        if not self.server.error:
            await asyncio.Event().wait()

    async def asked(self) -> "Attempt":
        await self._asked.wait()
        return self

    async def ended(self) -> bool:
        """Wait for its end. Returns whether it was cancelled."""
        await asyncio.wait([self.task])
        return self.task.cancelled()


async def test_lets_through_what_was_minted() -> None:
    guard = EgressGuard()
    attempt = await Attempt(guard, server := hop()).asked()
    assert server.error is None
    attempt.task.cancel()
    assert await attempt.ended()
    guard.server_connect_error(about(server))


@pytest.mark.parametrize(
    "server",
    [
        connection.Server(address=("192.0.2.1", 8080)),
        hop(rewritten=("192.0.2.66", 8080)),
        hop(rewritten=("192.0.2.1", 8081)),
        hop(rewritten=("2001:db8::1", 8080)),
    ],
    ids=["not minted", "another address", "another port", "another family"],
)
async def test_refuses_what_was_not_minted_or_was_sent_elsewhere(server: connection.Server) -> None:
    guard = EgressGuard()
    attempt = Attempt(guard, server)
    assert not await attempt.ended()
    assert server.error == REFUSED
    guard.server_connect_error(about(server))


async def test_refuses_what_no_task_could_be_cancelled_for() -> None:
    server = hop()
    asyncio.get_running_loop().call_soon(EgressGuard().server_connect, about(server))
    await asyncio.sleep(0)
    assert server.error == REFUSED


async def test_refuses_a_route_that_the_policy_no_longer_has() -> None:
    guard = EgressGuard()
    guard.is_current = lambda route: route is not ROUTE
    server = hop()
    assert not await Attempt(guard, server).ended()
    assert server.error == REFUSED
    assert server.cut


async def test_ends_an_attempt_that_takes_too_long() -> None:
    guard = EgressGuard()
    server = hop(timeout=0.01)
    server.timestamp_start = time.time()
    assert await Attempt(guard, server).ended()
    assert server.timed_out


async def test_counts_from_the_moment_the_attempt_really_starts() -> None:
    guard = EgressGuard()
    attempt = await Attempt(guard, server := hop(timeout=0.01)).asked()
    first = guard._timers[server]
    while guard._timers[server] is first:  # it waits for its turn
        await asyncio.sleep(0)
    assert not attempt.task.cancelling()
    server.timestamp_start = time.time()
    assert await attempt.ended()
    assert server.timed_out


@pytest.mark.parametrize("outcome", ["server_connected", "server_connect_error"])
async def test_the_clock_stops_when_the_attempt_is_over(outcome: str) -> None:
    guard = EgressGuard()
    attempt = await Attempt(guard, server := hop()).asked()
    timer = guard._timers[server]
    getattr(guard, outcome)(about(server))
    assert timer.cancelled()
    assert not guard._timers
    attempt.task.cancel()
    assert await attempt.ended()


async def test_cuts_what_is_no_longer_current_and_nothing_else() -> None:
    guard = EgressGuard()
    stale, current = (
        hop(),
        MintedServer(Route(Choice(Egress(None)), ROUTE.pin, ROUTE.target), ("192.0.2.1", 443), 9),
    )
    attempts = [await Attempt(guard, server).asked() for server in (stale, current)]
    for server in (stale, current):
        server.timestamp_start = time.time()
        guard.server_connected(about(server))
    guard.is_current = lambda route: route is not ROUTE
    guard.cut_stale()
    assert await attempts[0].ended()
    assert stale.cut
    assert not attempts[1].task.cancelling()
    assert not current.cut
    guard.server_disconnected(about(stale))
    guard.server_disconnected(about(current))
    assert not guard._live
    attempts[1].task.cancel()
    assert await attempts[1].ended()


async def test_cuts_what_it_cannot_check(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(_: Route) -> bool:
        raise RuntimeError("broken on purpose")

    guard = EgressGuard()
    attempts = [await Attempt(guard, server).asked() for server in (hop(), hop())]
    guard.is_current = breaks
    guard.cut_stale()
    assert [await attempt.ended() for attempt in attempts] == [True, True]
    assert "cannot check a connection; it is cut" in caplog.text


async def test_cuts_an_attempt_that_waits_for_its_turn() -> None:
    guard = EgressGuard()
    attempt = await Attempt(guard, server := hop()).asked()
    guard.is_current = lambda _: False
    guard.cut_stale()
    assert server.cut
    assert await attempt.ended()
    assert not guard._live
    assert not guard._timers


async def test_its_end_leaves_no_timer_and_no_seam() -> None:
    own = HttpStream.make_server_connection
    guard = EgressGuard()
    guard.load(None)
    assert HttpStream.make_server_connection is not own
    attempt = await Attempt(guard, server := hop()).asked()
    timer = guard._timers[server]
    guard.done()
    assert timer.cancelled()
    assert HttpStream.make_server_connection is own
    attempt.task.cancel()
    assert await attempt.ended()


async def test_a_guard_that_cannot_work_lets_nothing_in_or_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = HttpStream.make_server_connection
    monkeypatch.setattr(seams, "check", lambda: "not the mitmproxy that it was")
    guard = EgressGuard()
    guard.load(None)
    assert guard.closed == "not the mitmproxy that it was"
    assert HttpStream.make_server_connection is own
    client, server = tflow.tclient_conn(), hop()
    await guard.client_connected(client)
    assert client.error == REFUSED
    assert not await Attempt(guard, server).ended()
    assert server.error == REFUSED
    guard.done()


def test_is_put_in_its_place_once_and_past_a_stranger_of_its_name() -> None:
    with addons(SimpleNamespace(name="egressguard")) as context:
        guard = stand_guard()
        assert stand_guard() is guard
        assert context.master.addons.chain[-1] is guard
        guard.done()


async def test_closes_a_client_that_it_cannot_guard(caplog: pytest.LogCaptureFixture) -> None:
    client = tflow.tclient_conn()
    with proxyserver():
        await EgressGuard().client_connected(client)
    assert client.error == REFUSED
    assert "cannot guard a connection" in caplog.text


async def test_a_client_may_leave_while_the_guard_identifies_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Origin() as origin, egress(tmp_path) as mitm:
        guard: EgressGuard = mitm.master.addons.get("egressguard")
        guard._opening.add(hop())  # so that it waits to see whether the client is its other end
        socket.create_connection(("127.0.0.1", mitm.port)).close()
        await mitm.wait_for_log("client disconnect")
        assert (await http_get(mitm.port, origin.url())).status == 200
        guard._opening.clear()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_connection_whose_root_was_taken_away_goes_nowhere(tmp_path: Path) -> None:
    class Unwraps:
        def client_connected(self, client: connection.Client) -> None:
            handler: Any = mitm.master.addons.get("proxyserver").connections[client.id]
            handler.layer = handler.layer.child_layer

    async with TcpEcho() as echo, egress(tmp_path) as mitm:
        mitm.master.addons.add(Unwraps())
        with pytest.raises(ConnectRefused):
            async with connect(mitm.port, *echo.address):
                pass
        await mitm.wait_for_log("not assigned by the policy")
    assert echo.accepted == 0


@pytest.mark.parametrize(
    ("rules", "status", "accepted"),
    [([{"use": "direct", "family": "ipv4"}], 503, (0, 0)), ([], 200, (0, 1))],
    ids=["pinned", "nothing is asked of it"],
)
async def test_an_addon_cannot_send_a_pinned_connection_elsewhere(
    tmp_path: Path, rules: list[dict[str, Any]], status: int, accepted: tuple[int, int]
) -> None:
    class Redirects:
        def server_connect(self, data: ServerConnectionHookData) -> None:
            data.server.address = other.address

    async with Origin() as origin, Origin() as other:
        policy = str(write_policy(tmp_path / "policy.yaml", rules=rules))
        async with Mitm(tmp_path, *default_addons(), Redirects(), egress_policy=policy) as mitm:
            assert (await http_get(mitm.port, origin.url())).status == status
    assert (origin.accepted, other.accepted) == accepted
