"""What mitmdump says at a terminal: how to log in to the page, and below each flow its way."""

import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.curl import curl
from tests.e2e.mitmdump import egress
from tests.e2e.programs import IPV4, IPV6, PASSWORD, USERNAME, microsocks, nginx, squid

pytestmark = pytest.mark.e2e
TERMINAL = sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"
"""A command prefix: the command after it has a terminal."""
ACCOUNT = {"username": USERNAME, "password": PASSWORD}
GREEN, RED = r"\x1b\[32m", r"\x1b\[31m\x1b\[1m"


async def test_terminal_shows_the_link_once_and_the_way_of_each_flow(tmp_path: Path) -> None:
    async with (
        nginx(tmp_path) as origin,
        microsocks(tmp_path, IPV6, exit_="") as socks,
        squid(tmp_path) as forward,
    ):
        policy: dict[str, Any] = {
            "proxies": [
                {
                    "name": "v6-exit",
                    "type": "socks5",
                    "host": IPV6,
                    "port": socks.port,
                    "family": "ipv6",
                    **ACCOUNT,
                },
                {"name": "office", "type": "http", "host": IPV4, "port": forward.port, **ACCOUNT},
            ],
            "rules": [
                {"hosts": [IPV6], "use": "v6-exit"},
                {"name": "work", "hosts": [IPV4], "use": "office"},
            ],
            "default": "refuse",
        }
        page: dict[str, Any] = {
            "egress_listen": f"{IPV4}:0",
            "egress_registry": tmp_path / "registry.db",
            "egress_token_file": tmp_path / "token",
        }
        async with egress(tmp_path, policy=policy, prefix=TERMINAL, **page) as mitmdump:
            link = await mitmdump.wait_for_log(r"Log in .*: (http\S+/)#([\w-]{40,})")
            async with httpx.AsyncClient(trust_env=False) as client:
                answers = [
                    await client.post(f"{link[1]}api/v1/session", json={"link": link[2]})
                    for _ in range(2)
                ]
            assert [one.status_code for one in answers] == [200, 401]

            place = rf"{GREEN}via v6-exit\x1b\[0m \[::1\]:{socks.port} IPv6"
            for host, status, line in (
                (f"[{IPV6}]", 200, rf"{place}, rule #1, \d+ ms to the exit"),
                (IPV4, 200, rf"{GREEN}via office\x1b\[0m {IPV4}:{forward.port} IPv4, rule work"),
                ("o.test", 503, rf"{RED}refused\x1b\[0m, default"),
            ):
                url = f"http://{host}:{origin.port}/"
                assert (await curl(url, *mitmdump.proxy)).status == status
                await mitmdump.wait_for_log(rf"<<.*{status}.*\n   {line}")
            assert len(re.findall(r"(?m)^   \x1b\[3[12]m", mitmdump.output)) == 3
