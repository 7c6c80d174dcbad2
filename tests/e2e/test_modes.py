"""Ways into mitmdump other than an HTTP proxy's, with curl as the client."""

from pathlib import Path

import pytest

from tests.e2e.curl import curl
from tests.e2e.mitmdump import egress
from tests.e2e.programs import EXIT, IPV4, PASSWORD, USERNAME, microsocks, nginx, squid, tinyproxy

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
async def test_socks5_mode_hands_the_name_on_to_the_proxy(tmp_path: Path, strategy: str) -> None:
    hosts = {"origin.test": IPV4}
    async with nginx(tmp_path) as origin, squid(tmp_path, hosts=hosts) as proxy:
        account = {"username": USERNAME, "password": PASSWORD}
        policy = {
            "proxies": [{"name": "exit", "host": IPV4, "port": proxy.port, **account}],
            "rules": [{"hosts": ["origin.test"], "use": "exit"}],
            "default": "refuse",
        }
        async with egress(
            tmp_path, "--mode", "socks5", policy=policy, connection_strategy=strategy
        ) as mitm:
            through = ("--socks5-hostname", f"127.0.0.1:{mitm.port}", "--cacert", str(mitm.ca_cert))
            http = f"http://origin.test:{origin.port}/"
            https = f"https://origin.test:{origin.tls_port}/"
            assert (await curl(http, *through)).reached == (200, EXIT, "HTTP/1.1")
            assert (await curl(https, *through, "--http1.1")).reached == (200, EXIT, "HTTP/1.1")
            assert (await curl(https, *through, "--http2")).reached == (200, EXIT, "HTTP/2.0")
            other = await curl(f"http://{IPV4}:{origin.port}/", *through)
            if strategy == "lazy":
                assert other.refused == (503, "EGRESS_REFUSED", "default")
            else:  # known before there is a request: SOCKS5's own "host unreachable"
                assert (other.status, "(4)" in other.headers) == (0, True)


async def test_reverse_mode_leaves_by_the_exit(tmp_path: Path) -> None:
    async with nginx(tmp_path) as origin, microsocks(tmp_path) as proxy:
        url = f"socks5://{USERNAME}:s3cret%3Ap%40ss@{IPV4}:{proxy.port}"
        policy = {
            "proxies": [{"name": "exit", "url": url}],
            "rules": [{"hosts": [IPV4], "use": "exit"}],
            "default": "refuse",
        }
        target = f"reverse:https://{IPV4}:{origin.tls_port}"
        async with egress(tmp_path, "--mode", target, policy=policy) as mitm:
            answer = await curl(f"http://127.0.0.1:{mitm.port}/x")
    assert answer.reached == (200, EXIT, "HTTP/1.1")


async def test_upstream_mode_is_for_what_no_rule_names(tmp_path: Path) -> None:
    async with nginx(tmp_path) as origin, tinyproxy(tmp_path) as upstream:
        policy = {"rules": [{"ports": [origin.tls_port], "use": "direct", "family": "ipv4"}]}
        http, https = f"http://{IPV4}:{origin.port}/", f"https://{IPV4}:{origin.tls_port}/"
        mode = f"upstream:http://{IPV4}:{upstream.port}"
        async with egress(tmp_path, "--mode", mode, policy=policy) as mitm:
            assert (await curl(http, *mitm.proxy)).reached == (200, EXIT, "HTTP/1.1")
            assert (await curl(https, *mitm.proxy)).reached == (200, IPV4, "HTTP/2.0")
        closed = {**policy, "default": "refuse"}
        async with egress(tmp_path, "--mode", mode, policy=closed) as mitm:
            refused = (await curl(http, *mitm.proxy)).refused
            assert refused == (503, "EGRESS_REFUSED", "default")
