"""A document comes whole by its route, or not at all."""

from collections.abc import AsyncIterator

import pytest

from egress_policy.client.fetch import Fetched, FetchFailed, fetch
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.target_url import parse_target_url
from tests.client.scene import CREDENTIALS, HASTY, PATIENT, lab_proxy, route_to, trusting
from tests.helpers.lists import ListServer, answer
from tests.helpers.origin import tls_context
from tests.helpers.proxies import Faults

TEXT = "socks5://192.0.2.1:1080\n" * 100
TOKEN = "/list?token=s3cret"


@pytest.fixture
async def server() -> AsyncIterator[ListServer]:
    async with ListServer(TEXT) as server:
        yield server


def direct(server: ListServer) -> Route:
    return Route(Choice(Egress(None)), Pin(("127.0.0.1",), 4), server.address)


async def fetched(server: ListServer, route: Route, longest: int = 1 << 20) -> Fetched:
    url = parse_target_url(server.url("origin.test", TOKEN))
    return await fetch(route, url, trusting, longest, 60, PATIENT)


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
@pytest.mark.parametrize("is_tls", [False, True])
async def test_document_comes_through_the_proxy(type_: str, is_tls: bool) -> None:
    async with ListServer(TEXT, tls=tls_context() if is_tls else None) as server:
        resolve = {"origin.test": server.address}
        async with lab_proxy(type_, resolve, credentials=CREDENTIALS) as proxy:
            name, password = CREDENTIALS
            target = f"origin.test:{server.port}"
            route = route_to(proxy, type_, target=target, username=name, password=password)
            assert (await fetched(server, route)).body.decode() == TEXT
            assert proxy.targets == [f"origin.test:{server.port}"]
    [head] = server.heads
    assert "s3cret HTTP/1.1" in head
    assert "proxy-authorization" not in head.lower()


async def test_document_comes_directly_where_that_is_the_route(server: ListServer) -> None:
    assert (await fetched(server, direct(server))).body.decode() == TEXT


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (answer("", status="404 Not Found"), "answered 404"),
        (answer(TEXT, "Content-Encoding: gzip"), "compressed"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + TEXT.encode(), "how long it is"),
        (answer(TEXT)[:-1], "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsocks", "broke off"),
        (b"/list?token=s3cret is what you asked for\r\n\r\n", "cannot be read"),
        (b"\r\n", "cannot be read"),
    ],
)
async def test_what_is_no_whole_document_fails(server: ListServer, raw: bytes, why: str) -> None:
    server.raw = raw
    with pytest.raises(FetchFailed) as caught:
        await fetched(server, direct(server))
    assert why in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_longest_document_fits_and_a_longer_one_does_not(server: ListServer) -> None:
    assert (await fetched(server, direct(server), len(TEXT))).body.decode() == TEXT
    with pytest.raises(FetchFailed, match=r"longer than 2,399 bytes"):
        await fetched(server, direct(server), len(TEXT) - 1)


async def test_document_that_is_somewhere_else_is_not_looked_for_here(server: ListServer) -> None:
    server.raw = answer("", "Location: http://other.test/", status="302 Found")
    assert await fetched(server, direct(server)) == Fetched(moved_to="http://other.test/")


async def test_silence_ends(server: ListServer) -> None:
    server.silent = True
    url = parse_target_url(server.url("origin.test", TOKEN))
    with pytest.raises(FetchFailed, match=r"did not come within 0\.2 s"):
        await fetch(direct(server), url, trusting, 1000, 0.2, PATIENT)


async def test_proxy_that_fails_is_named_and_nothing_goes_around_it(server: ListServer) -> None:
    resolve = {"origin.test": server.address}
    for fault in (Faults(stall="handshake"), Faults(reset="handshake")):
        async with lab_proxy("socks5", resolve, faults=fault) as proxy:
            route = route_to(proxy, "socks5", target=f"origin.test:{server.port}")
            with pytest.raises(FetchFailed, match="dc"):
                await fetch(
                    route, parse_target_url(server.url("origin.test")), trusting, 1000, 60, HASTY
                )
    assert server.accepted == 0


async def test_target_that_does_not_answer_is_named(server: ListServer) -> None:
    await server.__aexit__(None, None, None)
    with pytest.raises(FetchFailed, match="Connection refused"):
        await fetched(server, direct(server))
