"""The management API beside the proxy: its changes apply at once, and no flow reaches it."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from mitmproxy.exceptions import OptionsError

from egress_policy import default_addons
from egress_policy.api.auth import KEY_HEADER
from egress_policy.management.token_file import make_token
from egress_policy.proxy.addons.api import EgressApi
from tests.helpers.clients import http_get, plain_client, socks5
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.ports import free_port
from tests.helpers.proxies import HttpProxy, Socks5Proxy
from tests.helpers.scene import part
from tests.helpers.system_names import system_resolves


def mitm_with_api(folder: Path, listen: str = "127.0.0.1:0", **options: Any) -> Mitm:
    options = {"egress_registry": str(folder / "egress.db"), "egress_hosts_file": "", **options}
    token = str(folder / "egress-token")
    return Mitm(
        folder / "conf",
        *default_addons(),
        egress_listen=listen,
        egress_token_file=token,
        **options,
    )


def api_port() -> int:
    return part(EgressApi).management.router.listeners.of_api[0][1]


async def ask(mitm: Mitm, folder: Path, method: str, path: str, **body: Any) -> Any:
    token = (folder / "egress-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{api_port()}/api/v1/management{path}"
    async with plain_client(headers=headers) as client:
        answer = await client.request(method, url, json=body or None)
        answer.raise_for_status()
        return answer.json()


async def echoes(tunnel: Any) -> bool:
    await tunnel.send(b"ping")
    return bool(await tunnel.receive(4) == b"ping")


async def test_change_holds_for_the_next_flow_and_cuts_what_went_the_old_way(
    tmp_path: Path,
) -> None:
    async with TcpEcho() as echo, Socks5Proxy() as one, Socks5Proxy() as two:
        one.resolve = two.resolve = {"x.test": echo.address}
        async with mitm_with_api(tmp_path, mode=["socks5"]) as mitm:
            fields = {"name": "exit", "type": "socks5", "host": "127.0.0.1", "family": "ipv4"}
            made = await ask(mitm, tmp_path, "POST", "/proxies", **fields, port=one.port)
            await ask(mitm, tmp_path, "POST", "/rules", use="exit")
            async with socks5(mitm.port, "x.test", 80) as before:
                assert await echoes(before)
                await ask(mitm, tmp_path, "PATCH", "/proxies", id=made["id"], port=two.port)
                assert await before.closed() == b""
                async with socks5(mitm.port, "x.test", 80) as after:
                    assert await echoes(after)
    assert (one.accepted, two.accepted) == (1, 1)


@pytest.mark.parametrize("status", ["inactive", "deleted"])
async def test_proxy_that_is_disabled_or_deleted_refuses(tmp_path: Path, status: str) -> None:
    async with Origin() as origin, HttpProxy() as proxy, mitm_with_api(tmp_path) as mitm:
        fields = {"name": "exit", "host": "127.0.0.1", "port": proxy.port}
        made = await ask(mitm, tmp_path, "POST", "/proxies", **fields)
        await ask(mitm, tmp_path, "POST", "/rules", use="exit")
        assert (await http_get(mitm.port, origin.url())).status == 200
        if status == "deleted":
            await ask(mitm, tmp_path, "DELETE", f"/proxies?id={made['id']}&force=1")
        else:
            await ask(mitm, tmp_path, "PATCH", "/proxies", id=made["id"], status="inactive")
        answer = await http_get(mitm.port, origin.url())
        assert answer.json["code"] == "PROXY_ASSIGNED_UNAVAILABLE"
    assert len(origin.requests) == 1


NAMED = ("named.test", "127.0.0.1.nip.test")
"""Names that lead to this machine, which only a resolver can tell."""


@pytest.mark.parametrize("family", ["", "ipv4", "ipv6"])
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "LOCALHOST.", "x.localhost", "127.1", "2130706433", "0x7f.1"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.0.0.2", "0.0.0.0", "[::]"),
        *NAMED,
    ],
)
async def test_no_flow_reaches_the_listener(
    tmp_path: Path,
    host: str,
    family: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG, "egress_policy.api")
    system_resolves(monkeypatch, dict.fromkeys(NAMED, ("127.0.0.1",)))
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 named.test 127.0.0.1.nip.test\n::1 named.test\n")
    options = {"egress_hosts_file": str(hosts)}
    async with mitm_with_api(tmp_path, "0.0.0.0:0", **options) as mitm:
        if family:
            await ask(mitm, tmp_path, "POST", "/rules", use="direct", family=family)
        caplog.clear()
        port = api_port()
        answer = await http_get(mitm.port, f"http://{host}:{port}/healthz")
        assert answer.status in (502, 503)
        assert b'"ok"' not in answer.body
        assert "/healthz" not in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_no_tunnel_reaches_the_listener(
    tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "egress_policy.api")
    async with mitm_with_api(tmp_path, mode=["socks5"]) as mitm:
        with pytest.raises(ConnectionError):
            async with socks5(mitm.port, host, api_port()):
                raise AssertionError
        assert "/healthz" not in caplog.text


async def test_listener_is_not_asked_for_through_a_proxy_either(tmp_path: Path) -> None:
    async with HttpProxy() as proxy, mitm_with_api(tmp_path) as mitm:
        fields = {"name": "exit", "host": "127.0.0.1", "port": proxy.port}
        await ask(mitm, tmp_path, "POST", "/proxies", **fields)
        await ask(mitm, tmp_path, "POST", "/rules", use="exit")
        url = f"http://127.0.0.1:{api_port()}/healthz"
        assert (await http_get(mitm.port, url)).status == 503
    assert proxy.accepted == 0


async def test_listener_itself_is_no_proxy(tmp_path: Path) -> None:
    async with Origin() as origin, mitm_with_api(tmp_path) as mitm:
        fields = {"name": "self", "host": "127.0.0.1", "port": api_port()}
        await ask(mitm, tmp_path, "POST", "/proxies", **fields)
        await ask(mitm, tmp_path, "POST", "/rules", use="self")
        assert (await http_get(mitm.port, origin.url())).status == 503
    assert origin.requests == []


async def test_listener_goes_with_its_option_and_comes_back(tmp_path: Path) -> None:
    async with mitm_with_api(tmp_path) as mitm:
        port = api_port()
        mitm.options.update(egress_listen="")
        async with plain_client() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/healthz")
        mitm.options.update(egress_listen=f"127.0.0.1:{port}")
        assert (await ask(mitm, tmp_path, "GET", "/status"))["state"] == "in force"


async def test_port_that_is_taken_is_an_error_with_what_to_do(tmp_path: Path) -> None:
    async with Origin() as taken, mitm_with_api(tmp_path) as mitm:
        with pytest.raises(OptionsError, match="leave it empty"):
            mitm.options.update(egress_listen=taken.authority)
        assert (await ask(mitm, tmp_path, "GET", "/status"))["state"] == "in force"
    async with Origin() as taken:
        other = mitm_with_api(tmp_path / "other", taken.authority, expect_errors=True)
        async with other as mitm:
            assert any("leave it empty" in text for text in mitm.errors)


async def test_address_that_others_can_reach_is_warned_of(tmp_path: Path) -> None:
    async with mitm_with_api(tmp_path, "0.0.0.0:0") as mitm:
        assert "which others can reach" in mitm.text


async def test_token_that_others_can_read_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "egress-token").write_text("a token that everybody knows\n")
    async with mitm_with_api(tmp_path, expect_errors=True) as mitm:
        assert any("make its mode 0600" in text for text in mitm.errors)
        assert part(EgressApi).server is None


async def test_login_outlives_a_restart_and_not_its_token(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    token = tmp_path / "egress-token"
    async with plain_client(base_url=f"http://{listen}") as page:

        async def is_logged_in() -> bool:
            return (await page.get("/api/v1/session")).status_code == 200

        async with mitm_with_api(tmp_path, listen):
            opened = await page.post("/api/v1/session", json={"token": token.read_text().strip()})
            page.headers[KEY_HEADER] = opened.json()["key"]
            assert await is_logged_in()
        async with mitm_with_api(tmp_path, listen):
            assert await is_logged_in()
        make_token(token)
        async with mitm_with_api(tmp_path, listen):
            assert not await is_logged_in()


async def test_entries_outlive_a_restart(tmp_path: Path) -> None:
    async with mitm_with_api(tmp_path) as mitm:
        fields = {"name": "exit", "host": "127.0.0.1", "port": 1}
        await ask(mitm, tmp_path, "POST", "/proxies", **fields)
        await ask(mitm, tmp_path, "POST", "/rules", use="exit")
    async with Origin() as origin, mitm_with_api(tmp_path) as mitm:
        assert (await http_get(mitm.port, origin.url())).status == 503
    assert origin.requests == []
