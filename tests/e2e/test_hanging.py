"""A node whose PostgreSQL or nameserver hangs goes on with what it had, and can be ended."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.e2e.network import network
from tests.e2e.node import Node
from tests.e2e.postgres import Postgres, postgres
from tests.e2e.system import find, unavailable, with_files
from tests.helpers.clients import http_get
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy
from tests.helpers.scene import write_policy

pytestmark = pytest.mark.e2e

Hang = Callable[[Postgres, str], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    with network():
        yield


@pytest_asyncio.fixture
async def server(tmp_path: Path, own_network: None) -> AsyncIterator[Postgres]:
    async with postgres(tmp_path) as running:
        yield running


def stopped(server: Postgres, _: str) -> AbstractContextManager[None]:
    return server.stopped()


def locked(server: Postgres, url: str) -> AbstractContextManager[None]:
    return server.locked(url.rpartition("/")[2], "revision")


@contextmanager
def cut_off(server: Postgres, _: str) -> Iterator[None]:
    """A packet filter that drops everything for the server, in the network of this test."""
    nft = find("nft")
    made = subprocess.run([nft, "add table inet cut"], check=False, capture_output=True, text=True)
    if made.returncode:
        unavailable(f"no packet filter: {made.stderr}")
    chain = "add chain inet cut incoming { type filter hook input priority 0; }"
    rules = [
        f"add rule inet cut incoming tcp {end} {server.port} drop" for end in ("dport", "sport")
    ]
    for command in (chain, *rules):
        subprocess.run([nft, command], check=True)
    try:
        yield
    finally:
        subprocess.run([nft, "delete table inet cut"], check=True)


WAYS = [stopped, locked, cut_off]


@pytest.fixture
def unheard(tmp_path: Path, own_network: None) -> Iterator[socket.socket]:
    """The system's nameserver: receives every question that the hosts file does not answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nameserver:
        nameserver.bind(("127.0.0.1", 53))
        nameserver.setblocking(False)
        yield nameserver


def node_of(folder: Path, url: str) -> Node:
    policy = write_policy(folder / "policy.yaml", default="direct")
    env = {**os.environ, "EGRESS_KEY": "the key of this registry"}
    return Node(folder / "node", registry=url, env=env, egress_policy=policy)


async def until_status(node: Node, key: str, true: Callable[[object], bool]) -> float:
    """Seconds until ``key`` of the registry's status satisfies ``true``."""
    started = time.monotonic()
    while not true((await node.change("GET", "/status"))["registry"][key]):
        assert time.monotonic() - started < 20
        await asyncio.sleep(0.05)  # nothing tells
    return time.monotonic() - started


async def end(node: Node) -> float:
    """Seconds from SIGTERM to the end."""
    started = time.monotonic()
    node._process.terminate()
    async with asyncio.timeout(30):
        await node._process.wait()
    return time.monotonic() - started


async def patch(node: Node, id_: str, port: int) -> tuple[httpx.Response, float]:
    started = time.monotonic()
    answer = await node.ask("PATCH", "/proxies", id=id_, port=port)
    return answer, time.monotonic() - started


@pytest.mark.parametrize("hangs", WAYS)
async def test_a_database_that_hangs_stops_nothing_but_changes(
    tmp_path: Path, server: Postgres, hangs: Hang
) -> None:
    url = server.new_database()
    async with node_of(tmp_path, url) as node:
        made = await node.change("POST", "/proxies", name="exit", host="192.0.2.1", port=1)
        id_ = made["id"]
        with hangs(server, url):
            asked = [asyncio.create_task(patch(node, id_, port)) for port in range(2, 12)]
            assert await until_status(node, "error", bool) < 6
            write_policy(tmp_path / "policy.yaml", default="refuse")
            started = time.monotonic()
            await node.wait_for_log("Egress policy reloaded")
            assert time.monotonic() - started < 3
            for answer, took in await asyncio.gather(*asked):
                assert (answer.status_code, took < 11) == (503, True), answer.text
                assert answer.headers["Retry-After"] == "5"
            status = await node.change("GET", "/status")
            assert (status["state"], status["default"]) == ("in force", "refuse")
            assert status["registry"]["proxies"] == 1
        await until_status(node, "error", lambda error: not error)
        assert (await patch(node, id_, 99))[0].status_code == 200
        await node.wait_for_log("registry can be read again")
        assert await end(node) < 3
    assert "s3cret" not in node.output


@pytest.mark.parametrize("hangs", WAYS)
@pytest.mark.parametrize("moment", ["at once", "while it is read", "while it is written"])
async def test_a_database_that_hangs_keeps_no_node_from_ending(
    tmp_path: Path, server: Postgres, hangs: Hang, moment: str
) -> None:
    url = server.new_database()
    async with node_of(tmp_path, url) as node:
        made = await node.change("POST", "/proxies", name="exit", host="192.0.2.1", port=1)
        with hangs(server, url):
            if moment == "while it is written":
                asked = asyncio.create_task(patch(node, made["id"], 2))
                await asyncio.sleep(1)  # it is under way when the database has it
            if moment == "while it is read":
                await asyncio.sleep(1)  # two polls
            assert await end(node) < 3
            if moment == "while it is written":
                answer, _ = await asked
                assert (answer.status_code, answer.json()["code"]) == (503, "MAYBE_MADE")


@pytest.mark.parametrize("hangs", WAYS)
async def test_a_database_that_hangs_at_the_start_ends_it_or_is_ended(
    tmp_path: Path, server: Postgres, hangs: Hang
) -> None:
    url = server.new_database()
    async with node_of(tmp_path, url):
        pass
    with hangs(server, url):
        node = node_of(tmp_path, url)
        started = time.monotonic()
        status, output = await node.run_to_exit()
        assert (status, time.monotonic() - started < 10) == (1, True)
        assert "egress_registry: The registry postgresql://127.0.0.1" in output
        node = node_of(tmp_path, url)
        await node._launch()
        try:
            await asyncio.sleep(2)  # it says nothing before the registry is open
            # The 2.5 s of opening may have just begun, and a busy machine is slow to begin and end.
            assert await end(node) < 6
        finally:
            await node._end()


async def until_asked(nameserver: socket.socket, names: set[str]) -> None:
    """Wait until the system has been asked for all these names."""
    left, loop = set(names), asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while left:
            question = await loop.sock_recv(nameserver, 512)
            left -= {name for name in left if name.partition(".")[0].encode() in question}


async def test_names_that_the_system_does_not_resolve_hold_up_nothing_else(
    tmp_path: Path, unheard: socket.socket
) -> None:
    """Twelve proxies and twelve targets are more than the threads that asyncio has for them."""
    system = {"/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:30 attempts:2\n"}
    system["/etc/hosts"] = "127.0.0.1 localhost\n"
    files = {place: tmp_path / Path(place).name for place in system}
    for place, text in system.items():
        files[place].write_text(text)
    exits, targets = (
        {f"{kind}{number}x.test" for number in range(12)} for kind in ("exit", "target")
    )
    async with Origin() as origin, HttpProxy() as proxy:
        policy = write_policy(
            tmp_path / "policy.yaml",
            proxies=[
                *({"name": name, "host": name, "port": 8080} for name in exits),
                {"name": "here", "host": "localhost", "port": proxy.port},
            ],
            rules=[
                *({"hosts": [f"to.{name}"], "use": name} for name in exits),
                {"hosts": ["127.0.0.1"], "use": "here"},
            ],
            default="direct",
        )
        async with Node(tmp_path / "node", prefix=with_files(files), egress_policy=policy) as node:
            urls = [*(f"http://to.{name}/" for name in exits), *(f"http://{n}/" for n in targets)]
            waiting = [asyncio.create_task(http_get(node.port, url)) for url in urls]
            await until_asked(unheard, exits | targets)
            started = time.monotonic()
            assert (await http_get(node.port, origin.url())).status == 200
            await node.change("POST", "/proxies", name="another", host="192.0.2.1", port=1)
            assert time.monotonic() - started < 3
            assert not any(flow.done() for flow in waiting)
            assert await end(node) < 3
            await asyncio.gather(*waiting, return_exceptions=True)
