"""The lab's proxies work as proxies, and fail on demand."""

from typing import Any

import pytest

from tests.helpers.certs import authority
from tests.helpers.clients import ConnectRefused, connect, http_get, session, socks5, wire
from tests.helpers.origin import Origin, TcpEcho, tls_context
from tests.helpers.proxies import Faults, HttpProxy, Socks5Proxy

CONNECT = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a.test\r\n\r\n"


async def test_http_proxy_resolves_names_by_its_table() -> None:
    async with TcpEcho() as echo, HttpProxy(resolve={"a.test:443": echo.address}) as proxy:
        async with connect(proxy.port, "a.test", 443) as tunnel:
            await tunnel.send(b"ping")
            assert await tunnel.receive(4) == b"ping"
            assert proxy.tunnels == 1
        await proxy.until(lambda: not proxy.tunnels)
    assert proxy.targets == ["a.test:443"]
    assert proxy.requests[0].line == "CONNECT a.test:443 HTTP/1.1"
    assert proxy.accepted == echo.accepted == 1


async def test_http_proxy_forwards_absolute_form_on_one_connection() -> None:
    async with (
        Origin() as origin,
        HttpProxy(resolve={"a.test": origin.address}) as proxy,
        session(proxy.port, "http://a.test") as through,
    ):
        first = await through.request("POST", "/x?y", body=b"hello")
        second = await through.get("/", [("proxy-connection", "keep-alive")])
    assert (first.json["path"], first.json["body"]) == ("/x?y", "hello")
    assert "proxy-connection" not in second.json["headers"]
    assert proxy.targets == ["a.test:80"] * 2
    assert proxy.accepted == 1
    assert origin.accepted == 2


async def test_http_proxy_checks_credentials_and_records_them() -> None:
    async with Origin() as origin, HttpProxy(credentials=("u", "p")) as proxy:
        missing = await http_get(proxy.port, origin.url())
        basic = [("Proxy-Authorization", "Basic dTpw")]
        given = await http_get(proxy.port, origin.url(), headers=basic)
    assert (missing.status, given.status) == (407, 200)
    assert [request.credentials for request in proxy.requests] == [None, ("u", "p")]


@pytest.mark.parametrize("kind", [HttpProxy, Socks5Proxy])
async def test_proxy_is_reached_over_ipv6(kind: Any) -> None:
    async with kind(host="::1") as proxy, wire(proxy.port, "::1"):
        await proxy.until(lambda: proxy.open)
    assert proxy.families == [6]


async def test_http_proxy_answers_a_status_and_knows_which_ports_it_likes() -> None:
    async with HttpProxy() as proxy:
        proxy.status = 407
        assert await refusal(proxy, 443) == 407
        proxy.status, proxy.only_443 = None, True
        assert await refusal(proxy, 80) == 403
        assert await refusal(proxy, 443) == 502


async def refusal(proxy: HttpProxy, port: int) -> int:
    with pytest.raises(ConnectRefused) as refused:
        async with connect(proxy.port, "nowhere.test", port):
            pass
    return refused.value.answer.status


async def test_https_proxy_speaks_tls_first() -> None:
    context = tls_context()
    async with Origin() as origin, HttpProxy(tls=context) as proxy, wire(proxy.port) as client:
        await client.start_tls(authority().ca_path, "localhost")
        answer = await client.request("GET", origin.url(), "ignored.test")
    assert answer.status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "a.test"])
@pytest.mark.parametrize("credentials", [None, ("user", "pass")])
async def test_socks5_proxy_tunnels(host: str, credentials: tuple[str, str] | None) -> None:
    async with TcpEcho(host="::1" if host == "::1" else "127.0.0.1") as echo:
        resolve = {f"a.test:{echo.port}": echo.address}
        async with (
            Socks5Proxy(credentials=credentials, resolve=resolve) as proxy,
            socks5(proxy.port, host, echo.port, *credentials or ()) as tunnel,
        ):
            await tunnel.send(b"ping")
            assert await tunnel.receive(4) == b"ping"
    (request,) = proxy.requests
    assert (request.host, request.credentials) == (host, credentials)


@pytest.mark.parametrize(
    ("host", "credentials", "code"),
    [("nowhere.test", ("u", "p"), 4), ("127.0.0.1", ("u", "p"), 5), ("a.test", ("u", "x"), 1)],
)
async def test_socks5_proxy_refuses(host: str, credentials: tuple[str, str], code: int) -> None:
    async with TcpEcho() as gone:
        pass
    async with Socks5Proxy(credentials=("u", "p")) as proxy:
        with pytest.raises(ConnectionError) as error:
            async with socks5(proxy.port, host, gone.port, *credentials):
                pass
        assert error.value.args == (code,)
        with pytest.raises(ConnectionError, match="255"):
            async with socks5(proxy.port, host, 443):
                pass


async def test_socks5_proxy_gives_any_reply_code() -> None:
    async with Socks5Proxy() as proxy:
        proxy.reply = 6
        with pytest.raises(ConnectionError, match="6"):
            async with socks5(proxy.port, "a.test", 443):
                pass


async def test_half_close_passes_through_a_tunnel() -> None:
    async with (
        TcpEcho() as echo,
        Socks5Proxy() as proxy,
        socks5(proxy.port, "127.0.0.1", echo.port) as tunnel,
    ):
        await tunnel.send(b"last words")
        tunnel.writer.write_eof()
        assert await tunnel.closed() == b"last words"


@pytest.mark.parametrize("moment", ["accept", "handshake"])
@pytest.mark.parametrize(
    ("kind", "hello"), [(HttpProxy, CONNECT % 443), (Socks5Proxy, b"\x05\x01\x00")]
)
async def test_faults_on_order(kind: Any, hello: bytes, moment: Any) -> None:
    async with kind(faults=Faults(reset=moment)) as proxy, wire(proxy.port) as client:
        await client.send(hello)
        assert await client.closed() == b""
        proxy.faults = Faults(stall=moment)
        async with wire(proxy.port) as stalled:
            await stalled.send(hello)
            await proxy.until(lambda: proxy.open == 1)
            assert not stalled.reader.at_eof()
        proxy.faults = Faults(garbage=b"\0\1\2")
        async with wire(proxy.port) as confused:
            await confused.send(hello)
            assert await confused.receive(3) == b"\0\1\2"


@pytest.mark.parametrize("trickle", [False, True])
async def test_replies_come_byte_by_byte_and_with_bytes_behind(trickle: bool) -> None:
    faults = Faults(trickle=trickle, behind=b"banner")
    async with (
        TcpEcho() as echo,
        HttpProxy(faults=faults) as http,
        Socks5Proxy(faults=faults) as s5,
    ):
        async with socks5(s5.port, "127.0.0.1", echo.port) as tunnel:
            assert await tunnel.receive(6) == b"banner"
        async with wire(http.port) as client:
            await client.send(CONNECT % echo.port)
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 Connection established")
            assert await client.receive(6) == b"banner"


async def test_a_fault_at_accept_comes_before_tls() -> None:
    faults = Faults(stall="accept")
    async with HttpProxy(tls=tls_context(), faults=faults) as proxy, wire(proxy.port) as client:
        await proxy.until(lambda: proxy.accepted)
        proxy.drop_connections()
        assert await client.closed() == b""
