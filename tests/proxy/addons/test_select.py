"""Between mitmproxy and decisions: what a decision learns about a connection."""

import base64
from pathlib import Path

import pytest
from mitmproxy import tls

from egress_policy.registry.scopes import scope_condition
from tests.helpers.clients import connect, http_get
from tests.helpers.origin import Origin, TcpEcho, tls_context
from tests.helpers.proxies import HttpProxy
from tests.helpers.scene import egress


@pytest.mark.parametrize(("user", "exits"), [("alice", 1), ("bob", 0)])
async def test_the_proxyauth_user_is_known_for_raw_connections_too(
    user: str, exits: int, tmp_path: Path
) -> None:
    async with TcpEcho() as echo, HttpProxy() as proxy:
        async with egress(
            tmp_path,
            proxies=[{"name": "exit", "host": proxy.host, "port": proxy.port}],
            rules=[scope_condition("user", "alice") | {"use": "exit"}],
            connection_strategy="lazy",
            proxyauth="any",
        ) as mitm:
            word = base64.b64encode(f"{user}:s3cret".encode()).decode()
            allowed = [("proxy-authorization", f"Basic {word}")]
            async with connect(mitm.port, *echo.address, allowed) as tunnel:
                await tunnel.send(b"\x00raw")
                assert await tunnel.receive(4) == b"\x00raw"
        assert (proxy.accepted, echo.accepted) == (exits, 1)


class ServerFirst:
    """Opens the server connection amid the client's TLS handshake, as addons may."""

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        data.establish_server_tls_first = True


async def test_a_connection_opened_before_its_request_is_not_taken_for_one_without(
    tmp_path: Path,
) -> None:
    rules = [{"filter": "~m GET", "use": "refuse"}]
    async with Origin(tls=tls_context("http/1.1")) as origin:
        async with egress(tmp_path, rules=rules, default="direct") as mitm:
            mitm.master.addons.add(ServerFirst())
            answer = await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
        assert answer.status == 503
        assert origin.accepted == 0
