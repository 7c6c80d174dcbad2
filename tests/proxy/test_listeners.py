"""No flow reaches a listener of mitmproxy: by no name, literal, exit, family, mode or replay.

The exits are on this machine, so they could reach whatever they are asked for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import connection, platform

from egress_policy.errors import Reason
from egress_policy.proxy.addons.api import EgressApi
from egress_policy.proxy.seams import opener
from tests.helpers.clients import ConnectRefused, connect, http_get, socks5, wire
from tests.helpers.lab import V4, refusal_in, request_to, tls_for
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Origin
from tests.helpers.own import own_addresses
from tests.helpers.proxies import Socks5Proxy, make
from tests.helpers.scene import egress, part, reload_policy, write_policy
from tests.helpers.server import LabServer
from tests.helpers.system_names import system_resolves

LITERALS = [V4, "127.0.0.2", "::1", "::ffff:127.0.0.1", "127.1", "2130706433", "0.0.0.0", "::"]
LITERALS += own_addresses()
LOCAL_NAMES = ["localhost", "LOCALHOST.", "x.localhost", "named.test"]
"""Known without a query; the last one is in the hosts file."""
RESOLVED = "home.test"
"""Known only by DNS: from a nameserver if pinned, otherwise from the system. An exit on this
machine is never asked for it."""

EGRESSES: dict[str, dict[str, Any]] = {
    "direct": {"use": "direct"},
    "direct ipv4": {"use": "direct", "family": "ipv4"},
    "direct ipv6": {"use": "direct", "family": "ipv6"},
    **{kind: {"use": kind} for kind in ("http", "https", "socks5", "connect")},
    "socks5 target ipv4": {"use": "socks5", "target_family": "ipv4"},
    "http target ipv6": {"use": "http", "target_family": "ipv6"},
}


class Clients:
    """Counts connections to mitmproxy."""

    def __init__(self) -> None:
        self.count = 0

    def client_connected(self, client: connection.Client) -> None:
        self.count += 1


@pytest.fixture
def system_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    system_resolves(monkeypatch, {RESOLVED: (V4,), "named.test": (V4,)})


@asynccontextmanager
async def scene(folder: Path, rule: dict[str, Any]) -> AsyncIterator[tuple[Mitm, Clients, Any]]:
    """mitmproxy with an API, a listener for each mode, and an exit of each kind on this machine."""
    records = {(RESOLVED, "A"): Reply([V4]), (RESOLVED, "AAAA"): Reply(["::1"])}
    clients = Clients()
    async with contextlib.AsyncExitStack() as stack:
        kinds = ("http", "https", "socks5", "connect")
        proxies = {kind: await stack.enter_async_context(make(kind)) for kind in kinds}
        nameserver = await stack.enter_async_context(Nameserver(records))
        entries: list[dict[str, Any]] = [
            {"name": kind, "type": "http" if kind == "connect" else kind}
            | {"host": V4, "port": proxy.port}
            | ({"plain_http": "connect"} if kind == "connect" else {})
            for kind, proxy in proxies.items()
        ]
        mitm = await stack.enter_async_context(
            egress(
                folder,
                proxies=entries,
                rules=[rule],
                dns=nameserver.port,
                hosts={"named.test": V4},
                mode=["regular", "socks5"],
                egress_listen="0.0.0.0:0",
                egress_token_file=str(folder / "token"),
                ssl_insecure=True,
            )
        )
        mitm.master.addons.add(clients)
        yield mitm, clients, proxies


def listeners_of(mitm: Mitm) -> list[int]:
    return [
        *mitm.ports,
        part(EgressApi).management.router.listeners.of_api[0][1],
    ]


async def ways_in(mitm: Mitm, host: str, port: int) -> AsyncIterator[bool]:
    """Each way to ask for an address. Returns whether it was reached."""
    shown = f"[{host}]" if ":" in host else host
    answer = await http_get(mitm.ports[0], f"http://{shown}:{port}/healthz")
    yield answer.status not in (502, 503)
    with contextlib.suppress(ConnectRefused):
        async with connect(mitm.ports[0], host, port):
            yield True
    yield False
    with contextlib.suppress(ConnectionError):
        async with socks5(mitm.ports[1], host, port):
            yield True
    yield False
    again = request_to(f"http://{shown}:{port}/healthz")
    mitm.master.commands.call("replay.client", [again])
    await mitm.master.addons.get("clientplayback").queue.join()
    yield again.response is not None and again.response.status_code not in (502, 503)


@pytest.mark.usefixtures("system_resolver")
@pytest.mark.parametrize("egress_", EGRESSES)
async def test_no_flow_reaches_a_listener(egress_: str, tmp_path: Path) -> None:
    async with scene(tmp_path, EGRESSES[egress_]) as (mitm, clients, proxies):
        for host in [*LITERALS, *LOCAL_NAMES, RESOLVED]:
            for port in listeners_of(mitm):
                before = clients.count
                reached = [one async for one in ways_in(mitm, host, port)]
                assert not any(reached), (host, port, reached)
                assert clients.count - before == 3, (host, port)  # replay is no client
        for proxy in proxies.values():
            assert proxy.requests == []


# -- a loop of mitmproxy's own: at most one dial a request


def _is_mitmproxy() -> bool:
    """Whether mitmproxy opens a connection, and not a client or an exit of the test."""
    return opener() is not None


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that mitmproxy opens."""
    opened: list[Any] = []
    open_connection = asyncio.open_connection

    async def opens(host: Any, port: Any, **more: Any) -> Any:
        if _is_mitmproxy():
            opened.append((host, port))
        return await open_connection(host, port, **more)

    monkeypatch.setattr(asyncio, "open_connection", opens)
    return opened


@pytest.mark.parametrize("tls", ["http", "https"])
@pytest.mark.parametrize("host", [V4, "localhost"])
async def test_a_request_for_mitmproxy_itself_is_refused_as_a_loop(
    host: str, tls: str, dials: list[Any], tmp_path: Path
) -> None:
    async with egress(tmp_path) as mitm:
        answer = await _get_or_refusal(mitm, f"{tls}://{host}:{mitm.port}/")
        assert refusal_in(answer)["reason"] == Reason.LOOP
    assert dials == []


async def _get_or_refusal(mitm: Mitm, url: str) -> Any:
    try:
        return await http_get(mitm.port, url, ca=mitm.ca_cert)
    except ConnectRefused as refused:
        return refused.answer


def to_itself(kind: str, mitm: Mitm) -> list[str]:
    """A mode whose target is the port of its own listener."""
    return [f"{kind}@{V4}:{mitm.port}"]


@pytest.mark.usefixtures("system_resolver")
@pytest.mark.parametrize("host", [V4, "localhost", RESOLVED])
@pytest.mark.parametrize("kind", ["reverse:http://HOST:PORT", "upstream:http://HOST:PORT"])
async def test_a_mode_that_leads_to_its_own_port_makes_one_dial_at_most(
    kind: str, host: str, dials: list[Any], tmp_path: Path
) -> None:
    clients = Clients()
    async with egress(tmp_path) as mitm:
        mitm.master.addons.add(clients)
        port = mitm.port
        mode = kind.replace("HOST", host).replace("PORT", str(port))
        mitm.options.update(mode=[f"{mode}@{V4}:{port}"], listen_port=port)
        await mitm.wait_for_log(rf"(?s){kind[:7]}.*listening at")
        async with wire(port) as client:
            await client.send(b"GET http://origin.test/ HTTP/1.1\r\nhost: origin.test\r\n\r\n")
            await client.closed() if kind.startswith("reverse") else await client.receive(12)
    assert len(dials) <= 1
    assert clients.count <= 2


async def test_a_bare_connection_in_transparent_mode_does_not_go_round(
    dials: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own_port(_: Any) -> tuple[str, int]:
        return V4, mitm.port

    monkeypatch.setattr(platform, "original_addr", own_port)
    monkeypatch.setattr(platform, "init_transparent_mode", lambda: None)
    async with egress(tmp_path, mode=["transparent"]) as mitm, wire(mitm.port) as client:
        assert await client.closed() == b""
    assert dials == []


async def test_a_listener_that_comes_up_later_is_known_at_once(
    dials: list[Any], tmp_path: Path
) -> None:
    async with Origin() as origin, egress(tmp_path) as mitm:
        assert (await http_get(mitm.port, origin.url())).status == 200
        assert dials == [origin.address]
        before = mitm.port
        mitm.options.update(mode=[f"regular@{V4}:{before}", "socks5@127.0.0.1:0"])
        await mitm.wait_for_log("SOCKS v5 proxy listening")
        dials.clear()
        for port in mitm.ports:
            answer = await http_get(before, f"http://{V4}:{port}/")
            assert refusal_in(answer)["reason"] == Reason.LOOP
    assert dials == []


@pytest.mark.parametrize("host", [V4, "named.test"])
@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_listener_that_moves_while_an_exit_is_dialled_is_not_asked_for(
    kind: str, host: str, tmp_path: Path
) -> None:
    """The route was made before mitmproxy listened there."""
    gate = asyncio.Event()
    records = {("proxy.test", "A"): Reply([V4], gate=gate)}
    async with make(kind) as proxy, Nameserver(records) as nameserver, Origin() as origin:
        port = origin.port
        exit_ = {"name": "exit", "type": kind, "host": "proxy.test", "port": proxy.port}
        exits = [exit_ | {"family": "ipv4"}]
        async with egress(
            tmp_path,
            proxies=exits,
            rules=[{"use": "exit"}],
            dns=nameserver.port,
            hosts={"named.test": V4},
        ) as mitm:
            waiting = asyncio.create_task(http_get(mitm.port, f"http://{host}:{port}/"))
            await nameserver.arrived.wait()
            listeners = part(EgressApi).management.router.listeners
            listeners.of_api = ((V4, port),)
            gate.set()
            assert refusal_in(await waiting)["reason"] == Reason.LOOP
        assert (proxy.accepted, origin.accepted) == (0, 0)


class Slow(LabServer):
    """An exit that accepts no connection until it may, and records its requests."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.go_on = asyncio.Event()
        self.asked = b""

    async def before_tls(self, writer: asyncio.StreamWriter) -> None:
        self.changed()
        await self.go_on.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = await reader.read(1000)


async def test_a_listener_that_moves_amid_tls_with_the_exit_is_not_asked_for(
    tmp_path: Path,
) -> None:
    async with Slow(tls=tls_for("proxy.test")) as proxy, Origin() as origin:
        exits = [{"name": "exit", "type": "https", "host": V4, "port": proxy.port}]
        async with egress(
            tmp_path, proxies=exits, rules=[{"use": "exit"}], ssl_insecure=True
        ) as mitm:
            waiting = asyncio.create_task(_get_or_refusal(mitm, f"https://{V4}:{origin.port}/"))
            await proxy.until(lambda: proxy.accepted)
            listeners = part(EgressApi).management.router.listeners
            listeners.of_api = ((V4, origin.port),)
            proxy.go_on.set()
            assert refusal_in(await waiting)["reason"] == Reason.LOOP
        assert (proxy.asked, origin.accepted) == (b"", 0)


async def test_an_exit_on_this_machine_is_not_asked_for_a_name_at_our_port(
    dials: list[Any], tmp_path: Path
) -> None:
    """The exit would resolve it in its own way. It may be asked for other ports, and a name that is
    resolved here is known."""
    async with Socks5Proxy() as proxy, Origin() as origin, Nameserver({}) as nameserver:
        proxy.resolve["home.test"] = origin.address
        exits = [{"name": "exit", "type": "socks5", "host": V4, "port": proxy.port}]
        async with egress(
            tmp_path, proxies=exits, rules=[{"use": "exit"}], dns=nameserver.port
        ) as mitm:
            answer = await http_get(mitm.port, f"http://home.test:{mitm.port}/")
            assert "target_family" in refusal_in(answer)["detail"]
            assert (await http_get(mitm.port, origin.url("home.test"))).status == 200
            assert not nameserver.queries
        assert proxy.targets == [f"home.test:{origin.port}"]


async def test_an_exit_that_is_mitmproxy_itself_is_not_dialled(
    dials: list[Any], tmp_path: Path
) -> None:
    async with egress(tmp_path, default="refuse") as mitm:
        for host in (V4, "localhost"):
            exits = [{"name": "self", "host": host, "port": mitm.port}]
            write_policy(tmp_path / "policy.yaml", proxies=exits, rules=[{"use": "self"}])
            await reload_policy()
            answer = await http_get(mitm.port, "http://origin.test/")
            assert refusal_in(answer)["reason"] == Reason.LOOP
    assert dials == []


@pytest.fixture
def redirected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets the system redirect all connections of mitmproxy to this port, as a firewall does: the
    address of the peer stays the requested one."""
    ports: list[int] = []
    open_connection = asyncio.open_connection

    async def opens(host: Any, port: Any, **more: Any) -> Any:
        if not ports or not _is_mitmproxy():
            return await open_connection(host, port, **more)
        reader, writer = await open_connection(V4, ports[0], **more)
        writer.transport._extra["peername"] = (host, port)  # type: ignore[attr-defined]
        return reader, writer

    monkeypatch.setattr(asyncio, "open_connection", opens)
    return ports


async def test_what_the_system_redirects_back_does_not_go_round(
    redirected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = Clients()
    monkeypatch.setattr(platform, "original_addr", lambda _: ("198.51.100.7", 443))
    monkeypatch.setattr(platform, "init_transparent_mode", lambda: None)
    async with egress(tmp_path, mode=["transparent"]) as mitm:
        mitm.master.addons.add(clients)
        redirected.append(mitm.port)
        for _ in range(10):
            async with wire(mitm.port) as client:
                await client.send(b"\0raw")
                await client.closed()
        await mitm.wait_for_log("would make an endless loop")
        await mitm.until(lambda: not mitm.clients)
    assert clients.count <= 20
