"""Pools of third-party proxies that die, stop and lose their account in the middle of traffic.

Each kind of proxy has a pool of its own, of a member that fails and a spare, and clients of its
own, which are told apart by their address.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from egress_policy.proxy.record import FlowRecord
from tests.e2e.mitmdump import EgressMitmdump, egress, read_http
from tests.e2e.node import Node
from tests.e2e.postgres import postgres
from tests.e2e.programs import (
    EXIT,
    PASSWORD,
    USERNAME,
    danted,
    haproxy,
    microsocks,
    nginx,
    squid,
    tinyproxy,
)
from tests.e2e.system import Program
from tests.helpers.clients import Response, http_get
from tests.helpers.ports import free_port
from tests.helpers.steady import SteadyClients

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

TYPES = {
    "tinyproxy": "http",
    "squid": "http",
    "haproxy": "https",
    "microsocks": "socks5",
    "danted": "socks5",
}
WITH_ACCOUNT = ("squid", "microsocks", "danted")
SPARE_EXIT = "127.0.0.3"
"""The client address that the origin sees for traffic through the spare."""
PACE = 0.5
"""Seconds from one request of a kind's clients to the next, whatever became of it."""


@dataclass
class Scene:
    """A mitmdump with a pool and clients for each kind; ``members`` are what fails."""

    mitm: EgressMitmdump
    members: dict[str, Program]
    clients: dict[str, SteadyClients]

    async def for_each(self, act: Callable[[str], Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for kind in self.members:
                group.create_task(act(kind))


@asynccontextmanager
async def scene(
    folder: Path, *kinds: str, schemes: Callable[[str], Iterable[str]], password: str = PASSWORD
) -> AsyncIterator[Scene]:
    """``schemes`` gives those of the requests for a kind. The policy has the ``password``."""
    account = {"username": USERNAME, "password": PASSWORD}
    sources = {kind: f"127.1.0.{n}" for n, kind in enumerate(kinds, 1)}
    async with AsyncExitStack() as stack:

        async def started(program: Program) -> Program:
            return await stack.enter_async_context(program)

        async def member(kind: str) -> Program:
            if kind == "haproxy":
                return await started(haproxy(folder, await started(tinyproxy(folder))))
            return await started(PROGRAMS[kind](folder))

        origin = await started(nginx(folder))
        spare = await started(microsocks(folder, exit_=SPARE_EXIT))
        members = {kind: await member(kind) for kind in kinds}
        entries = [_entry("spare", "socks5", spare) | account]
        for kind, program in members.items():
            entry = _entry(kind, TYPES[kind], program)
            with_account = account | {"password": password} if kind in WITH_ACCOUNT else {}
            entries.append(entry | with_account)
        mitm = egress(
            folder,
            *("-w", str(folder / "saved.flow")),
            policy={
                "proxies": entries,
                "pools": [
                    {"name": f"{kind}s", "members": [kind, "spare"], "strategy": "first"}
                    for kind in kinds
                ],
                "rules": [{"clients": [sources[kind]], "use": f"{kind}s"} for kind in kinds],
                "default": "refuse",
            },
            flow_detail=0,
            hosts={"proxy.test": ["127.0.0.1"]},
        )
        await stack.enter_async_context(mitm)
        clients = {}
        for kind, source in sources.items():
            urls = [origin.url(scheme) for scheme in schemes(kind)]
            clients[kind] = SteadyClients(mitm.port, mitm.ca_cert, urls, PACE, source)
            await stack.enter_async_context(clients[kind].sending())
        yield Scene(mitm, members, clients)


PROGRAMS: dict[str, Callable[[Path], Program]] = {
    "tinyproxy": tinyproxy,
    "squid": squid,
    "microsocks": microsocks,
    "danted": danted,
}


def _entry(name: str, type_: str, program: Program) -> dict[str, Any]:
    host = "proxy.test" if type_ == "https" else program.host
    return {"name": name, "type": type_, "host": host, "port": program.port, "family": "ipv4"}


def records(folder: Path, kind: str) -> list[FlowRecord]:
    """What the saved flows say that left by the pool of a kind, in their order."""
    flows = read_http(folder / "saved.flow")
    said = (FlowRecord.from_metadata(flow.metadata) for flow in flows)
    return [one for one in said if one.pool == f"{kind}s"]


def both(_: str) -> Iterable[str]:
    return ("http", "https")


async def test_a_member_that_is_killed_costs_no_client_an_error_and_comes_back(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, *TYPES, schemes=both) as under:

        async def kill_and_restart(kind: str) -> None:
            clients, member = under.clients[kind], under.members[kind]
            await clients.until_peer(EXIT, 5)
            await member.kill()
            killed = time.monotonic()
            await clients.until_peer(SPARE_EXIT, 12)
            await member.__aenter__()
            await clients.until_peer(EXIT, 5)
            assert not clients.failed_since(killed), kind

        await under.for_each(kill_and_restart)
    for kind in TYPES:
        said = records(tmp_path, kind)
        tried = [one.tried for one in said if one.tried]
        reasons = {f"{kind}:connect_refused", f"{kind}:handshake_failed"}  # in the middle of it
        assert {f"{kind}:connect_refused"} <= set(tried) <= reasons, kind
        assert {one.proxy for one in said} == {kind, "spare"}
        assert {one.attempt for one in said} == {1, 2}
        # Once the circuit is open only trials dial it: three strikes, what was under way, a trial.
        assert len(tried) <= 8, (kind, tried)


async def test_a_member_that_stops_costs_no_client_an_error_and_comes_back(
    tmp_path: Path,
) -> None:
    """It accepts connections, as its kernel does, and says nothing any more.

    What was forwarded to it waits for an answer, which may come: only tunnels are tried anew.
    """

    def schemes(kind: str) -> Iterable[str]:
        return both(kind) if TYPES[kind] == "socks5" else ("https",)

    async with scene(tmp_path, *TYPES, schemes=schemes) as under:

        async def stop_and_continue(kind: str) -> None:
            clients, member = under.clients[kind], under.members[kind]
            await clients.until_peer(EXIT, 5)
            member.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                await clients.until_peer(SPARE_EXIT, 30)
            finally:
                member.signal(signal.SIGCONT)
            await clients.until_peer(EXIT, 5)
            assert not clients.failed_since(stopped), kind

        await under.for_each(stop_and_continue)
    for kind in TYPES:
        said = records(tmp_path, kind)
        assert {one.tried for one in said if one.tried} == {f"{kind}:handshake_failed"}, kind
        # Once the circuit is open nobody waits for the member.
        assert any(one.proxy == "spare" and one.attempt == 1 for one in said), kind


async def test_a_member_that_refuses_its_account_is_left_alone(tmp_path: Path) -> None:
    """Wrong credentials are not sent again and again: an account might be locked for it."""
    kinds, began = WITH_ACCOUNT, time.monotonic()

    def schemes(kind: str) -> Iterable[str]:
        return both(kind) if TYPES[kind] == "socks5" else ("https",)

    async with scene(tmp_path, *kinds, schemes=schemes, password="another word") as under:

        async def watch(kind: str) -> None:
            clients = under.clients[kind]
            await clients.until_peer(SPARE_EXIT, 30)
            assert not clients.failed_since(began), kind

        await under.for_each(watch)
    for kind in kinds:
        said = records(tmp_path, kind)
        assert {one.proxy for one in said} == {"spare"}
        tried = [one.tried for one in said if one.tried]
        assert set(tried) == {f"{kind}:proxy_auth"}, kind
        assert len(tried) <= 7, (kind, tried)  # three strikes, and what was under way meanwhile


@pytest.mark.parametrize("use", ["exit", "homes"])
async def test_where_no_circuit_is_closed_clients_are_refused_at_once(
    tmp_path: Path, use: str
) -> None:
    """A proxy that a rule names alone, and a pool."""
    async with nginx(tmp_path) as origin:
        proxies: list[dict[str, Any]] = [
            {"name": name, "type": "socks5", "host": "127.0.0.1", "port": free_port()}
            for name in ("exit", "spare")
        ]
        policy = {
            "proxies": proxies,
            "pools": [{"name": "homes", "members": ["exit", "spare"], "strategy": "round-robin"}],
            "rules": [{"use": use}],
        }
        async with egress(tmp_path, policy=policy) as mitm:

            async def ask(scheme: str) -> Response:
                return await http_get(mitm.port, origin.url(scheme), ca=mitm.ca_cert)

            reasons: list[str] = []
            while "circuit_open" not in reasons and len(reasons) < 20:
                reasons.append((await ask("http")).json["reason"])
            assert reasons[:3] == ["connect_refused"] * 3
            assert reasons[-1] == "circuit_open", reasons
            for scheme in ("http", "https"):
                began = time.monotonic()
                answer = await ask(scheme)
                assert time.monotonic() - began < 2
                assert (answer.status, answer.json["code"], answer.json["reason"]) == (
                    503,
                    "PROXY_UNREACHABLE",
                    "circuit_open",
                )
                assert 1 <= int(answer.headers["retry-after"]) <= 7
                assert answer.headers["x-egress-error"] == "PROXY_UNREACHABLE"
    assert not (tmp_path / "origin.log").read_text()


ACCOUNTS = [f"account-{number}" for number in range(24)]


async def test_three_nodes_give_an_account_the_same_member_without_talking(
    tmp_path: Path,
) -> None:
    """They share a registry in PostgreSQL. Where a member is taken out, only its accounts move, and
    to the same place on each node."""
    env = {**os.environ, "EGRESS_KEY": "a key of three nodes, long enough"}
    account = {"username": USERNAME, "password": PASSWORD}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        origin, database = await enter(nginx(tmp_path)), await enter(postgres(tmp_path))
        exits = {f"home-{number}": f"127.0.0.{number}" for number in range(2, 6)}
        homes = {name: await enter(microsocks(tmp_path, exit_=ip)) for name, ip in exits.items()}
        registry = database.new_database()
        nodes = []
        for number in range(3):
            options: dict[str, Any] = {"registry": registry, "env": env}
            node = Node(tmp_path / f"node{number}", egress_default="refuse", **options)
            nodes.append(await enter(node))
        for name, program in homes.items():
            entry = _entry(name, "socks5", program) | account
            await nodes[0].change("POST", "/proxies", **entry)
        pool = {"strategy": "sticky", "sticky_by": "header:x-account", "members": list(homes)}
        made = await nodes[0].change("POST", "/pools", name="homes", **pool)
        await nodes[0].change("POST", "/rules", use="homes")

        async def exits_of(node: Node) -> dict[str, str]:
            """The exit of each account."""
            found = {}
            for account in ACCOUNTS:
                headers = [("x-account", account)]
                answer = await http_get(node.port, origin.url("http"), headers=headers)
                found[account] = answer.json["peer"] if answer.status == 200 else "refused"
            return found

        async def agreed(gone: str = "") -> dict[str, str]:
            """What all nodes say once the last change is in force on each."""
            async with asyncio.timeout(60):
                while True:
                    said = [await exits_of(node) for node in nodes]
                    if not {"refused", gone} & {peer for one in said for peer in one.values()}:
                        break
            assert said[0] == said[1] == said[2]
            return said[0]

        before = await agreed()
        assert set(before.values()) == set(exits.values())
        left = [name for name in homes if name != "home-3"]
        await nodes[1].change("PATCH", "/pools", id=made["id"], members=left)
        after = await agreed(gone=exits["home-3"])
        stayed = {account for account in ACCOUNTS if before[account] != exits["home-3"]}
        assert {after[account] == before[account] for account in stayed} == {True}
