"""``connection_strategy`` turns lazy: no connection breaks, whatever it does at that moment."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import platform
from mitmproxy.addons.proxyserver import Proxyserver

from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.certs import client_context
from tests.helpers.clients import Wire, connect, patience, socks5, wire
from tests.helpers.lab import refusal_in
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin, TcpEcho, tls_context
from tests.helpers.scene import egress, reload_policy, write_policy
from tests.helpers.server import LabServer
from tests.proxy.test_edits import hold_dials

NEEDS_REQUEST = {"filter": "~m POST", "use": "refuse"}
NEEDED_ELSEWHERE = [{"hosts": ["127.0.0.1"], "use": "direct"}, NEEDS_REQUEST]
"""The target of the test is decided without the request."""

ENTRANCES = ("CONNECT", "SOCKS5", "reverse", "transparent")


async def by_file(mitm: Mitm, folder: Path, rules: list[dict[str, Any]]) -> None:
    write_policy(folder / "policy.yaml", rules=rules)
    await mitm.wait_for_log("Egress policy reloaded")


async def by_command(mitm: Mitm, folder: Path, rules: list[dict[str, Any]]) -> None:
    write_policy(folder / "policy.yaml", rules=rules)
    await reload_policy()


async def by_option(mitm: Mitm, folder: Path, rules: list[dict[str, Any]]) -> None:
    mitm.options.update(egress_policy=str(write_policy(folder / "other.yaml", rules=rules)))


async def by_registry(mitm: Mitm, folder: Path, rules: list[dict[str, Any]]) -> None:
    config = find(EgressConfig)
    assert config
    for rule in rules:
        await config.management.rules.create(rule)


async def by_a_person(mitm: Mitm, folder: Path, rules: list[dict[str, Any]]) -> None:
    mitm.options.update(connection_strategy="lazy")


SWITCHES = (by_file, by_command, by_option, by_registry, by_a_person)
switches = pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.__name__)


@asynccontextmanager
async def four_entrances(
    folder: Path, origin: LabServer, scheme: str = "https", **options: Any
) -> AsyncIterator[Mitm]:
    mode = ["regular", "socks5", f"reverse:{scheme}://{origin.authority}", "transparent"]
    options = {"mode": mode, "egress_registry": ":memory:", **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "original_addr", lambda _: origin.address)
        async with egress(folder, **options) as mitm:
            yield mitm


def enter(mitm: Mitm, entrance: str, origin: LabServer) -> AbstractAsyncContextManager[Wire]:
    port = mitm.ports[ENTRANCES.index(entrance)]
    if entrance == "CONNECT":
        return connect(port, *origin.address)
    return socks5(port, *origin.address) if entrance == "SOCKS5" else wire(port)


@pytest.mark.parametrize("rules", [[NEEDS_REQUEST], NEEDED_ELSEWHERE], ids=["open", "decided"])
@switches
async def test_a_client_that_has_not_begun_its_tls_is_served(
    tmp_path: Path, switch: Callable[..., Awaitable[None]], rules: list[dict[str, Any]]
) -> None:
    """A client whose connection would still be decided the same keeps it."""
    async with Origin(tls=tls_context("http/1.1")) as origin, AsyncExitStack() as stack:
        mitm = await stack.enter_async_context(four_entrances(tmp_path, origin))
        clients = [
            await stack.enter_async_context(enter(mitm, entrance, origin)) for entrance in ENTRANCES
        ]
        await mitm.until(lambda: mitm.text.count("server connect") == len(clients))
        await switch(mitm, tmp_path, rules)
        assert mitm.options.connection_strategy == "lazy"
        async with patience("an answer to all"):
            for client in clients:
                await client.start_tls(mitm.ca_cert, "127.0.0.1")
                assert (await client.request("GET", "/", origin.authority)).status == 200
        cut = switch is not by_a_person and rules == [NEEDS_REQUEST]
        assert origin.accepted == len(clients) * (2 if cut else 1)
        if cut:
            for client in clients:
                refusal_in(await client.request("POST", "/", origin.authority))


async def get_over_tls(mitm: Mitm, client: Wire, between: Callable[[], None], cut: int) -> bytes:
    """A request, and its immediate answer. mitmproxy has read the client's first message, up to
    ``cut``, when ``between`` runs."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(mitm.ca_cert, ())
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    proxyserver = find(Proxyserver)
    assert proxyserver
    (handler,) = proxyserver.connections.values()
    reader = handler.transports[handler.client].reader
    assert isinstance(reader, asyncio.StreamReader)

    async def go_on() -> None:
        await client.send(outgoing.read())
        answer = await client.reader.read(65536)
        assert answer, "it was closed"
        incoming.write(answer)

    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    message = outgoing.read()
    reader.feed_data(message[:cut])
    between()  # what has just been read waits for its turn
    reader.feed_data(message[cut:])
    for step in (tls.do_handshake, lambda: tls.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")):
        await go_on()
        while True:
            try:
                step()
                break
            except ssl.SSLWantReadError:
                await go_on()
    while True:
        await go_on()
        with suppress(ssl.SSLWantReadError):
            return tls.read(65536)


@pytest.mark.parametrize("cut", [1, 10_000])
@pytest.mark.parametrize("rules", [[NEEDS_REQUEST], NEEDED_ELSEWHERE], ids=["open", "decided"])
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_a_client_whose_hello_is_being_read_is_served(
    tmp_path: Path, entrance: str, rules: list[dict[str, Any]], cut: int
) -> None:
    def switch() -> None:
        other = write_policy(tmp_path / "other.yaml", rules=rules)
        mitm.options.update(egress_policy=str(other))

    async with (
        Origin(tls=tls_context("http/1.1")) as origin,
        four_entrances(tmp_path, origin) as mitm,
        enter(mitm, entrance, origin) as client,
        patience("the end of the handshake"),
    ):
        await mitm.wait_for_log("server connect")
        assert b"HTTP/1.1 200" in await get_over_tls(mitm, client, switch, cut)
        assert mitm.options.connection_strategy == "lazy"


@switches
async def test_flows_under_way_go_on(
    tmp_path: Path, switch: Callable[..., Awaitable[None]]
) -> None:
    """Raw TCP of clients that have sent nothing yet, and of those that have."""
    async with TcpEcho(banner=b"220 ready\r\n") as origin, AsyncExitStack() as stack:
        mitm = await stack.enter_async_context(four_entrances(tmp_path, origin, "tcp"))
        clients = [
            await stack.enter_async_context(enter(mitm, entrance, origin))
            for entrance in (*ENTRANCES, *ENTRANCES)
        ]
        for client in clients:
            assert await client.receive(11) == b"220 ready\r\n"
        for client in clients[:4]:
            await client.send(b"EHLO")
            assert await client.receive(4) == b"EHLO"
        await switch(mitm, tmp_path, NEEDED_ELSEWHERE)
        for client in clients:
            await client.send(b"QUIT")
            assert await client.receive(4) == b"QUIT"
        assert origin.accepted == len(clients)


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_a_client_whose_connection_is_being_opened_sees_an_end_or_is_served(
    tmp_path: Path, entrance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin:
        async with four_entrances(tmp_path, origin) as mitm:
            begun = hold_dials(monkeypatch, origin.port)
            entering = enter(mitm, entrance, origin)
            waiting = asyncio.create_task(entering.__aenter__())
            await begun.wait()
            await by_command(mitm, tmp_path, [NEEDS_REQUEST])
            async with patience("an end"):
                with suppress(ConnectionError):
                    client = await waiting
                    assert await client.closed() == b""
                    await entering.__aexit__(None, None, None)
        assert origin.accepted == 0


async def test_it_is_lazy_before_anybody_is_let_in(tmp_path: Path) -> None:
    """In reverse mode mitmproxy connects as soon as a client has."""
    seen: list[str] = []

    class Looks:
        def client_connected(self, _: object) -> None:
            seen.append(mitm.options.connection_strategy)

    async with Origin(tls=tls_context("http/1.1")) as origin:
        mode = [f"reverse:{origin.url()}"]
        mitm = egress(tmp_path, rules=[NEEDS_REQUEST], mode=mode)
        async with mitm:
            mitm.master.addons.add(Looks())
            async with wire(mitm.port) as client:
                await client.start_tls(mitm.ca_cert, "127.0.0.1")
                assert origin.accepted == 0
                refusal_in(await client.request("POST", "/", origin.authority))
                assert origin.accepted == 0
                assert (await client.request("GET", "/", origin.authority)).status == 200
    assert seen == ["lazy"]


async def test_a_person_cannot_make_it_eager_while_a_rule_needs_the_request(tmp_path: Path) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin:
        async with (
            egress(tmp_path, rules=[NEEDS_REQUEST]) as mitm,
            connect(mitm.port, *origin.address) as client,
        ):
            mitm.options.update(connection_strategy="eager")
            assert mitm.options.connection_strategy == "lazy"
            async with connect(mitm.port, *origin.address) as another:
                for one in (client, another):
                    await one.start_tls(mitm.ca_cert, "127.0.0.1")
                    refusal_in(await one.request("POST", "/", origin.authority))
        assert origin.accepted == 0
