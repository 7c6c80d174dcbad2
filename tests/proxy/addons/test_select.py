"""Between mitmproxy and decisions: what a decision is told of a connection."""

import base64
from pathlib import Path

import pytest

from egress_policy.store.scopes import scope_condition
from tests.helpers.clients import connect
from tests.helpers.origin import TcpEcho
from tests.helpers.proxies import HttpProxy
from tests.helpers.scene import egress


@pytest.mark.parametrize(("user", "exits"), [("alice", 1), ("bob", 0)])
async def test_a_user_whom_proxyauth_let_in_is_known_of_what_is_not_http_too(
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
