"""Sticky pools: one key, one exit, whatever connection a flow comes by."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.client_paths import origin_for
from tests.helpers.clients import http_get, session
from tests.helpers.lab import egress_metadata, refusal_in
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy, entry
from tests.helpers.scene import egress

KEYS = [f"account-{number}" for number in range(12)]


def sticky_mitm(folder: Path, by: str, proxies: list[Socks5Proxy], **options: Any) -> Mitm:
    names = [f"p{number}" for number in range(len(proxies))]
    listed = [
        entry("socks5", proxy) | {"name": name} for name, proxy in zip(names, proxies, strict=True)
    ]
    pool = {"name": "homes", "members": names, "strategy": "sticky", "sticky_by": by}
    return egress(folder, proxies=listed, pools=[pool], rules=[{"use": "homes"}], **options)


@pytest.mark.parametrize("way", ["http", "https"])
async def test_a_header_chooses_the_exit_of_each_request(way: str, tmp_path: Path) -> None:
    """The requests share one connection of their client, and leave by different exits."""
    async with (
        origin_for(way == "https") as origin,
        Socks5Proxy() as one,
        Socks5Proxy() as two,
        Socks5Proxy() as three,
        sticky_mitm(tmp_path, "header:X-Account", [one, two, three]) as mitm,
        session(mitm.port, origin.url(), mitm.ca_cert) as client,
    ):
        taken: dict[str, str] = {}
        for _ in range(3):
            for key in KEYS:
                answer = await client.request("GET", "/", headers=[("x-account", key)])
                assert answer.status == 200
                said = egress_metadata(mitm.flows[-1])
                assert taken.setdefault(key, said["proxy"]) == said["proxy"]
        assert set(taken.values()) == {"p0", "p1", "p2"}
        body = refusal_in(await client.request("GET", "/"))
        assert (body["reason"], body["code"]) == ("rule", "EGRESS_REFUSED")
        assert "header x-account" in body["detail"]


def authorization(user: str) -> list[tuple[str, str]]:
    pair = base64.b64encode(f"{user}:secret".encode()).decode()
    return [("proxy-authorization", f"Basic {pair}")]


async def test_a_user_keeps_one_exit(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as one,
        Socks5Proxy() as two,
        sticky_mitm(tmp_path, "account", [one, two], proxyauth="any") as mitm,
    ):
        taken: dict[str, str] = {}
        for user in KEYS * 2:
            answer = await http_get(mitm.port, origin.url(), headers=authorization(user))
            assert answer.status == 200
            said = egress_metadata(mitm.flows[-1])
            assert taken.setdefault(user, said["proxy"]) == said["proxy"]
        assert set(taken.values()) == {"p0", "p1"}


async def test_without_users_a_pool_that_is_sticky_by_user_refuses(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as one,
        sticky_mitm(tmp_path, "user", [one]) as mitm,
    ):
        body = refusal_in(await http_get(mitm.port, origin.url()))
        assert body["reason"] == "rule"
        assert one.accepted == 0


@pytest.mark.parametrize("by", ["client", "host"])
async def test_one_client_or_host_keeps_one_exit(by: str, tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as one,
        Socks5Proxy() as two,
        Socks5Proxy() as three,
        sticky_mitm(tmp_path, by, [one, two, three]) as mitm,
    ):
        for _ in range(6):
            assert (await http_get(mitm.port, origin.url())).status == 200
        assert len({egress_metadata(flow)["proxy"] for flow in mitm.flows}) == 1


async def test_a_dead_target_moves_nobody_to_another_exit(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as one,
        Socks5Proxy() as two,
        Socks5Proxy() as three,
        sticky_mitm(tmp_path, "client", [one, two, three]) as mitm,
    ):
        for _ in range(3):
            for reply, status in ((0x00, 200), (0x01, 503)):
                one.reply = two.reply = three.reply = reply
                assert (await http_get(mitm.port, origin.url())).status == status
        alive = [flow for flow in mitm.http_flows if egress_metadata(flow).get("fault") is None]
        assert len({egress_metadata(flow)["proxy"] for flow in alive}) == 1


async def test_a_full_member_serves_nobody_else_by_the_connection_of_another_key(
    tmp_path: Path,
) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as one,
        egress(
            tmp_path,
            proxies=[entry("socks5", one, max_connections=1)],
            pools=[
                {
                    "name": "homes",
                    "members": ["exit"],
                    "strategy": "sticky",
                    "sticky_by": "header:x-account",
                }
            ],
            rules=[{"use": "homes"}],
        ) as mitm,
        session(mitm.port, origin.url()) as client,
    ):
        first, second = [("x-account", "first")], [("x-account", "second")]
        assert (await client.request("GET", "/", headers=first)).status == 200
        body = refusal_in(await client.request("GET", "/", headers=second))
        assert body["reason"] == "limit_reached"
        assert (await client.request("GET", "/", headers=first)).status == 200
        assert one.accepted == 1
