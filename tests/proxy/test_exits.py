"""``exit_enforce``: each flow is refused unless targets saw the expected address of late."""

from pathlib import Path

import pytest

from egress_policy.management.management import Management
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.client_paths import origin_for
from tests.helpers.clients import http_get, session
from tests.helpers.lab import egress_metadata, refusal_in
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy, entry
from tests.helpers.scene import egress

GOOD, BAD = "203.0.113.5", "198.51.100.1"
ENFORCED = {"exit_in": ["203.0.113.0/24"], "exit_enforce": True}


def management() -> Management:
    config = find(EgressConfig)
    assert config
    return config.management


def saw(address: str, name: str = "exit") -> None:
    policy = management()
    policy.known_exits.seen(policy.in_force.snapshot.proxies[name], address, "push")


@pytest.mark.parametrize("way", ["http", "https"])
async def test_each_flow_of_a_connection_needs_the_expected_exit(way: str, tmp_path: Path) -> None:
    async with (
        origin_for(way == "https") as origin,
        Socks5Proxy() as proxy,
        egress(
            tmp_path, proxies=[entry("socks5", proxy, **ENFORCED)], rules=[{"use": "exit"}]
        ) as mitm,
    ):
        answer = await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
        body = refusal_in(answer)
        assert (body["reason"], body["code"]) == ("exit_unverified", "PROXY_ASSIGNED_UNAVAILABLE")
        assert proxy.accepted == 0
        saw(GOOD)
        async with session(mitm.port, origin.url(), mitm.ca_cert) as client:
            assert (await client.request("GET", "/")).status == 200
            assert egress_metadata(mitm.flows[-1])["exit"] == GOOD
            saw(BAD)
            body = refusal_in(await client.request("GET", "/"))
            assert body["reason"] == "exit_mismatch"
            assert BAD not in body["detail"]
        assert len(origin.requests) == 1
        assert BAD not in mitm.text


@pytest.mark.parametrize("strategy", ["first", "round-robin", "random", "sticky"])
async def test_a_member_with_another_exit_is_left_out_until_it_is_as_expected(
    strategy: str, tmp_path: Path
) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as one,
        Socks5Proxy() as other,
        egress(
            tmp_path,
            proxies=[
                entry("socks5", one, **ENFORCED) | {"name": "one"},
                entry("socks5", other, **ENFORCED) | {"name": "other"},
            ],
            pools=[{"name": "homes", "members": ["one", "other"], "strategy": strategy}],
            rules=[{"use": "homes"}],
        ) as mitm,
    ):
        body = refusal_in(await http_get(mitm.port, origin.url()))
        assert body["code"] == "PROXY_ASSIGNED_UNAVAILABLE"
        saw(BAD, "one")
        saw(GOOD, "other")
        for _ in range(4):
            assert (await http_get(mitm.port, origin.url())).status == 200
        assert one.accepted == 0
        saw(GOOD, "one")
        saw(BAD, "other")
        for _ in range(4):
            assert (await http_get(mitm.port, origin.url())).status == 200
        assert (one.accepted, other.accepted) == (4, 4)
