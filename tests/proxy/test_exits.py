"""``exit_enforce``: each flow is refused unless targets saw the expected address of late."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from egress_policy import default_addons
from egress_policy.management.exit_views import Pushed
from egress_policy.management.management import Management
from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.guard import EgressGuard
from egress_policy.proxy.addons.named import find
from tests.helpers.client_paths import origin_for
from tests.helpers.clients import connect, http2_client, http_get, session, wire
from tests.helpers.lab import V4, WebSocket, egress_metadata, refusal_in, upgrade
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Http2Origin, Origin, TcpEcho, WebSocketOrigin
from tests.helpers.proxies import Faults, Socks5Proxy, entry
from tests.helpers.scene import egress, reload_policy, write_policy

GOOD, BAD = "203.0.113.5", "198.51.100.1"
ENFORCED = {"exit_in": ["203.0.113.0/24"], "exit_enforce": True}


def management() -> Management:
    config = find(EgressConfig)
    assert config
    return config.management


def proxies() -> Mapping[str, Proxy]:
    return management().in_force.snapshot.proxies


def saw(address: str, name: str = "exit") -> None:
    management().known_exits.seen(proxies()[name], address, "push")


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


# -- what is open when the exit turns out to be another one

NAMES = ["exit", "other", "free"]
"""``free`` is the same proxy as ``exit``, and nothing is enforced on it."""


@dataclass
class Held:
    """What is open through an exit: whether it still carries data, and a wait for its end."""

    alive: Callable[[], Awaitable[bool]]
    ended: Callable[[], Awaitable[object]]


@asynccontextmanager
async def raw(mitm: Mitm, proxy: Socks5Proxy, host: str) -> AsyncIterator[Held]:
    async with TcpEcho() as echo:
        proxy.resolve[host] = echo.address
        async with connect(mitm.port, host, echo.port) as tunnel:

            async def alive() -> bool:
                await tunnel.send(b"\x00raw")
                return await tunnel.receive(4) == b"\x00raw"

            yield Held(alive, tunnel.closed)


@asynccontextmanager
async def websocket(mitm: Mitm, proxy: Socks5Proxy, host: str) -> AsyncIterator[Held]:
    async with WebSocketOrigin() as origin, wire(mitm.port) as client:
        proxy.resolve[host] = V4, origin.port
        place = f"{host}:{origin.port}"
        assert (await upgrade(client, f"http://{place}/", place)).status == 101
        socket = WebSocket(client)

        async def alive() -> bool:
            return await socket.echo("framed") == "framed"

        yield Held(alive, client.closed)


@asynccontextmanager
async def kept(mitm: Mitm, proxy: Socks5Proxy, host: str) -> AsyncIterator[Held]:
    """A connection that waits for the next request."""
    async with Origin() as origin:
        proxy.resolve[host] = origin.address
        async with session(mitm.port, origin.url(host)) as client:
            assert (await client.get()).status == 200

            async def alive() -> bool:
                return (await client.get()).status == 200 and origin.accepted == 1

            yield Held(alive, lambda: origin.until(lambda: not origin.open))


@asynccontextmanager
async def three_exits(folder: Path, **options: Any) -> AsyncIterator[tuple[Mitm, Socks5Proxy, Any]]:
    """``exit.test`` leaves by ``exit`` and so on, all by one proxy."""
    async with Socks5Proxy() as proxy:

        async def edit(**expected: Any) -> None:
            write_policy(
                folder / "policy.yaml",
                proxies=[
                    entry("socks5", proxy, **(ENFORCED | expected)),
                    entry("socks5", proxy, name="other", **ENFORCED),
                    entry("socks5", proxy, name="free", exit_in=ENFORCED["exit_in"]),
                ],
                rules=[{"hosts": [f"{name}.test"], "use": name} for name in NAMES],
            )

        await edit()
        policy = folder / "policy.yaml"
        kept_options = {"connection_strategy": "lazy", **options}
        async with Mitm(
            folder / "conf", *default_addons(), egress_policy=str(policy), **kept_options
        ) as mitm:
            for name in NAMES:
                saw(GOOD, name)

            async def edit_now(**expected: Any) -> None:
                await edit(**expected)
                await reload_policy()

            yield mitm, proxy, edit_now


@pytest.mark.parametrize("what", [raw, websocket, kept])
@pytest.mark.parametrize("by", ["sight", "edit"])
async def test_what_is_open_by_an_exit_ends_when_it_is_known_to_be_a_wrong_one(
    what: Any, by: str, tmp_path: Path
) -> None:
    async with three_exits(tmp_path) as (mitm, proxy, edit), AsyncExitStack() as stack:
        held = {
            name: await stack.enter_async_context(what(mitm, proxy, f"{name}.test"))
            for name in NAMES
        }
        for one in held.values():
            assert await one.alive()
        if by == "edit":
            await edit(exit_in=["192.0.2.0/24"])
        else:
            saw(BAD)
            saw(BAD, "free")
        await held["exit"].ended()
        assert await held["other"].alive()
        assert await held["free"].alive()
        assert refusal_in(await http_get(mitm.port, "http://exit.test/"))["reason"] == (
            "exit_mismatch"
        )
        why = "a target saw an address that is not in exit_in"
        assert f"Egress: proxy exit: 1 open connection is cut: {why}" in mitm.text
        assert BAD not in mitm.text
        fares = management().router.standing.health
        assert fares.state(Egress(proxies()["exit"])).failures == 0


async def test_nothing_is_cut_where_nobody_knows_the_exit(tmp_path: Path) -> None:
    """Time, a clock that jumps, and what a registry brings back end nothing."""
    async with three_exits(tmp_path) as (mitm, proxy, edit), raw(mitm, proxy, "exit.test") as held:
        assert await held.alive()
        exits = management().known_exits
        before = exits._clock
        exits._clock = lambda: before() + 100_000
        await edit(notes="edited")
        assert await held.alive()
        body = refusal_in(await http_get(mitm.port, "http://exit.test/"))
        assert body["reason"] == "exit_unverified"
        exits._clock = lambda: before() - 100_000
        await edit(notes="edited again")
        assert await held.alive()


async def test_an_exit_that_goes_on_being_wrong_or_turns_within_one_report_is_cut_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with three_exits(tmp_path) as (mitm, proxy, _), raw(mitm, proxy, "exit.test") as held:
        guard = find(EgressGuard)
        assert guard
        assert await held.alive()
        cut, passes = guard.cut_mismatches, []

        def counted() -> None:
            passes.append(1)
            cut()

        monkeypatch.setattr(guard, "cut_mismatches", counted)
        flapping = [Pushed("exit", address) for address in [BAD, GOOD] * 20]
        await management().exits.push(flapping)
        assert len(passes) == 1
        assert await held.alive()  # the last word is that it is as expected
        for address in [BAD, "198.51.100.2"] * 20:
            saw(address)
        await held.ended()
        assert len(passes) == 2


async def test_of_two_exits_on_one_http2_connection_the_wrong_one_is_cut(tmp_path: Path) -> None:
    rules = [{"filter": f'~hq "x-exit: {name}"', "use": name} for name in ("exit", "other")]
    async with Http2Origin() as origin, Socks5Proxy() as one, Socks5Proxy() as two:
        one.resolve = two.resolve = {"localhost": origin.address}
        exits = [
            entry("socks5", one, **ENFORCED),
            entry("socks5", two, name="other", **ENFORCED),
        ]
        async with (
            egress(tmp_path, proxies=exits, rules=rules) as mitm,
            http2_client(mitm.port, mitm.ca_cert) as client,
        ):
            saw(GOOD)
            saw(GOOD, "other")

            def get(path: str, name: str) -> Any:
                return client.get(origin.url("localhost", path), headers={"x-exit": name})

            assert [(await get("/", name)).status_code for name in ("exit", "other")] == [200, 200]
            bad, good = (asyncio.create_task(get("/hold", name)) for name in ("exit", "other"))
            await origin.until(lambda: len(origin.requests) == 4)
            saw(BAD)
            assert (await bad).status_code == 502
            await one.until(lambda: not one.open)
            assert not good.done()
            origin.release.set()
            assert (await good).status_code == 200
            assert (await get("/", "exit")).status_code == 503
            assert (await get("/", "other")).status_code == 200
        assert (one.accepted, two.accepted) == (1, 1)


@pytest.mark.parametrize("moment", ["look-up", "handshake"])
async def test_an_exit_found_wrong_while_a_connection_is_opened_is_not_used(
    moment: str, tmp_path: Path
) -> None:
    """The next member of the pool is taken."""
    gate = asyncio.Event()
    there = {("proxy.test", "A"): Reply([V4], gate=gate)}
    faults = Faults(stall="handshake") if moment == "handshake" else None
    async with (
        Origin() as origin,
        Socks5Proxy(faults=faults) as one,
        Socks5Proxy() as two,
        Nameserver(there) as nameserver,
        egress(
            tmp_path,
            proxies=[
                entry("socks5", one, host="proxy.test", family="ipv4", **ENFORCED),
                entry("socks5", two, name="other"),
            ],
            pools=[{"name": "homes", "members": ["exit", "other"], "strategy": "first"}],
            rules=[{"use": "homes"}],
            dns=nameserver.port,
        ) as mitm,
    ):
        saw(GOOD)
        waiting = asyncio.create_task(http_get(mitm.port, origin.url()))
        await nameserver.arrived.wait()
        if moment == "handshake":
            gate.set()
            await one.until(lambda: one.accepted)
        saw(BAD)
        gate.set()
        assert (await waiting).status == 200
        (flow,) = await mitm.wait_for_flows(1)
        told = egress_metadata(flow)
        assert (told["proxy"], told["tried"]) == ("other", "exit:exit_mismatch")
        assert two.accepted == 1
        assert one.accepted == (moment == "handshake")
