"""mitmproxy under test proxies requests, in process and as a process, and leaves nothing behind."""

import asyncio
import logging
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.exceptions import OptionsError
from mitmproxy.log import MitmLogHandler
from websockets.asyncio.client import connect as websocket

from tests.helpers.certs import client_context
from tests.helpers.clients import connect, http2_client, http_get, session, socks5
from tests.helpers.mitm import Mitm, Mitmdump
from tests.helpers.origin import Http2Origin, Origin, TcpEcho, WebSocketOrigin, tls_context
from tests.helpers.proxies import HttpProxy


async def test_in_process_mitm_proxies_plain_http(tmp_path: Path) -> None:
    async with Origin() as origin, Mitm(tmp_path) as mitm:
        answer = await http_get(mitm.port, origin.url(path="/x"))
        await mitm.wait_for_flows(1)
    assert answer.json["path"] == "/x"
    assert [flow.request.path for flow in mitm.http_flows] == ["/x"]


async def test_in_process_mitm_intercepts_tls_and_keeps_connections(tmp_path: Path) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin, Mitm(tmp_path) as mitm:
        async with session(mitm.port, origin.url("localhost"), mitm.ca_cert) as through:
            answers = [await through.get(f"/{number}") for number in range(3)]
        await mitm.until(lambda: not mitm.clients)
    assert [answer.json["connection"] for answer in answers] == [1, 1, 1]
    assert len(mitm.flows) == 3
    assert [flow.request.pretty_host for flow in mitm.connects] == ["localhost"]


async def test_in_process_mitm_multiplexes_http2(tmp_path: Path) -> None:
    async with (
        Http2Origin() as origin,
        Mitm(tmp_path) as mitm,
        http2_client(mitm.port, mitm.ca_cert) as client,
    ):
        url = origin.url("localhost")
        answers = await asyncio.gather(*[client.get(f"{url}{n}") for n in range(10)])
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert {answer.json()["connection"] for answer in answers} == {1}
    assert len({answer.json()["stream"] for answer in answers}) == 10


async def test_several_modes_listen_on_a_port_each(tmp_path: Path) -> None:
    async with HttpProxy() as proxy, Origin() as origin, TcpEcho(banner=b"hello") as echo:
        modes = ["socks5", f"upstream:http://{proxy.authority}"]
        async with Mitm(tmp_path, mode=modes) as mitm:
            async with socks5(mitm.ports[0], "127.0.0.1", echo.port) as tunnel:
                assert await tunnel.receive(5) == b"hello"
            assert (await http_get(mitm.ports[1], origin.url())).status == 200
    assert proxy.targets == [origin.authority]


async def test_leaving_cuts_connections_that_are_still_busy(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with Origin() as origin:
        async with Mitm(tmp_path) as mitm:
            waiting = asyncio.create_task(http_get(mitm.port, origin.url(path="/hold")))
            await origin.until(lambda: origin.requests)
        with pytest.raises((EOFError, OSError)):
            await waiting
    assert asyncio.all_tasks() == before


class Answers:
    async def request(self, flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(418)


class RaisesInRequest:
    def request(self, flow: http.HTTPFlow) -> None:
        raise ValueError("broken on purpose")


async def test_given_addons_take_part_where_scripts_stand(tmp_path: Path) -> None:
    given = Answers()
    async with Mitm(tmp_path, given) as mitm:
        assert (await http_get(mitm.port, "http://nowhere.test/")).status == 418
        names = [type(addon).__name__ for addon in mitm.master.addons.chain]
        assert names.index("Answers") == names.index("ScriptLoader") + 1
    async with Mitm(tmp_path, given, as_script=False) as mitm:
        assert mitm.master.addons.chain[-2] is given


async def test_an_error_in_the_log_fails_the_test_unless_expected(tmp_path: Path) -> None:
    async with Origin() as origin:
        with pytest.raises(AssertionError, match="broken on purpose"):
            async with Mitm(tmp_path, RaisesInRequest()) as mitm:
                await http_get(mitm.port, origin.url())
        async with Mitm(tmp_path, RaisesInRequest(), expect_errors=True) as mitm:
            await http_get(mitm.port, origin.url())
            await mitm.wait_for_log("broken on purpose")


class RaisesInRequestAtStart:
    def load(self, loader: object) -> None:
        raise ValueError("broken on purpose")


async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="broken on purpose"):
        async with Mitm(tmp_path, RaisesInRequestAtStart()):
            pass
    with pytest.raises(OptionsError):
        async with Mitm(tmp_path, mode=["nonsense"]):
            pass
    with pytest.raises(AssertionError, match="no_such_option"):
        async with Mitm(tmp_path, no_such_option=1):
            pass
    assert asyncio.all_tasks() == before
    assert not [one for one in logging.getLogger().handlers if isinstance(one, MitmLogHandler)]


@pytest.mark.parametrize("secure", [False, True])
async def test_websockets_pass_and_are_kept_when_over(tmp_path: Path, secure: bool) -> None:
    tls = tls_context() if secure else None
    async with WebSocketOrigin(tls=tls) as origin, Mitm(tmp_path) as mitm:
        context = client_context(mitm.ca_cert) if secure else None
        proxy = f"http://127.0.0.1:{mitm.port}"
        async with websocket(origin.url("localhost"), ssl=context, proxy=proxy) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        await mitm.wait_for_flows(1)
    assert mitm.http_flows[0].websocket


async def test_raw_tcp_passes_both_ways(tmp_path: Path) -> None:
    async with TcpEcho(banner=b"hello") as echo, Mitm(tmp_path) as mitm:
        async with connect(mitm.port, "127.0.0.1", echo.port) as tunnel:
            assert await tunnel.receive(5) == b"hello"
            await tunnel.send(b"ping")
            assert await tunnel.receive(4) == b"ping"
        await mitm.wait_for_flows(1)


async def test_mitmdump_process_proxies_and_ends(tmp_path: Path) -> None:
    async with Origin() as origin, Mitmdump(tmp_path, script=None) as mitmdump:
        assert (await http_get(mitmdump.port, origin.url())).status == 200
        await mitmdump.wait_for_log(r"GET http://127\.0\.0\.1")


async def test_mitmdump_that_cannot_start_gives_status_and_output(tmp_path: Path) -> None:
    status, output = await Mitmdump(tmp_path, script=tmp_path / "missing.py").run_to_exit()
    assert status == 1
    assert "missing.py" in output
