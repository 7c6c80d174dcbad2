"""The registry of a mitmdump process: restarts, reloads, disks and keys that fail, two nodes."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.e2e.node import Node
from tests.e2e.postgres import postgres
from tests.e2e.system import find
from tests.helpers.clients import http_get
from tests.helpers.mitm import SCRIPT
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy

pytestmark = pytest.mark.e2e


async def assign_everything(node: Node, proxy: HttpProxy, name: str = "exit") -> str:
    """Let everything leave by ``proxy``, which becomes an entry. Returns its id."""
    fields = {"name": name, "host": "127.0.0.1", "port": proxy.port}
    made = await node.change("POST", "/proxies", **fields)
    await node.change("POST", "/rules", use=name)
    return str(made["id"])


def mounted(*mount: str) -> list[str]:
    """A command prefix: the command after it has this mount for itself."""
    unshare = [find("unshare"), "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("not permitted to make a mount namespace (needs CAP_SYS_ADMIN)")
    words = " ".join(mount)
    return [*unshare, "sh", "-c", f'{find("mount")} {words} && exec "$@"', "sh"]


# --- it goes on


async def test_what_was_kept_holds_after_a_restart_and_after_sigkill(tmp_path: Path) -> None:
    async with Origin() as origin, HttpProxy() as proxy:
        async with Node(tmp_path) as node:
            await assign_everything(node, proxy)
        async with Node(tmp_path) as node:
            assert (await http_get(node.port, origin.url())).status == 200
            node._process.kill()
        async with Node(tmp_path) as node:
            assert (await http_get(node.port, origin.url())).status == 200
    assert proxy.accepted == 2
    assert origin.accepted == 2


async def test_a_script_that_is_touched_keeps_registry_and_api(tmp_path: Path) -> None:
    script = tmp_path / "egress.py"
    shutil.copy(SCRIPT, script)
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    async with (
        Origin() as origin,
        HttpProxy() as proxy,
        Node(tmp_path / "node", script=script, env=env, egress_listen="127.0.0.1:0") as node,
    ):
        await assign_everything(node, proxy)
        for count in (2, 3):
            os.utime(script)
            await node.wait_for_log(rf"(?s)(management API and page.*){{{count}}}")
            assert (await http_get(node.port, origin.url())).status == 200
            assert (await node.change("GET", "/status"))["state"] == "in force"
    assert proxy.accepted == origin.accepted == 2


# --- a start that cannot be honoured


def _corrupt(database: Path) -> None:
    data = database.read_bytes()
    database.write_bytes(data[:4096] + Random(1).randbytes(len(data) - 4096))


def _no_database(database: Path) -> None:
    database.write_bytes(b"no database at all" * 100)


@pytest.mark.parametrize("spoil", [_corrupt, _no_database])
async def test_a_database_that_is_broken_ends_the_start_and_is_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    async with Origin() as origin, HttpProxy() as proxy, Node(tmp_path) as node:
        await assign_everything(node, proxy)
    database = tmp_path / "egress.db"
    spoil(database)
    before = database.read_bytes()
    status, output = await Node(tmp_path).run_to_exit()
    assert status == 1
    assert f"egress_registry: The registry {database} cannot be used" in output
    assert database.read_bytes() == before
    assert origin.accepted == 0


async def test_a_wrong_key_ends_the_start_and_the_right_one_finds_all(tmp_path: Path) -> None:
    env = {**os.environ, "EGRESS_KEY": "the key that it was made with"}
    async with Origin() as origin, HttpProxy() as proxy:
        async with Node(tmp_path, env=env) as node:
            await assign_everything(node, proxy)
        wrong = {**env, "EGRESS_KEY": "another key, as long as that"}
        status, output = await Node(tmp_path, env=wrong).run_to_exit()
        assert status == 1
        assert "another key" in output
        assert "EGRESS_KEY" in output
        assert wrong["EGRESS_KEY"] not in output
        async with Node(tmp_path, env=env) as node:
            assert (await http_get(node.port, origin.url())).status == 200
    assert proxy.accepted == origin.accepted == 1


async def test_a_folder_that_cannot_be_written_ends_the_start(tmp_path: Path) -> None:
    (folder := tmp_path / "kept").mkdir()
    prefix = mounted("-t", "tmpfs", "-o", "ro", "tmpfs", str(folder))
    status, output = await Node(
        tmp_path, registry=folder / "egress.db", prefix=prefix
    ).run_to_exit()
    assert status == 1
    assert f"{folder / 'egress.db'} cannot be used" in output


async def test_a_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    async with Origin() as taken:
        status, output = await Node(tmp_path, egress_listen=taken.authority).run_to_exit()
    assert status == 1
    assert f"egress_listen: cannot listen at {taken.authority}" in output
    assert "leave it empty" in output


# --- what fails while it runs


async def test_a_full_disk_is_reported_and_acknowledged_changes_stay(tmp_path: Path) -> None:
    (folder := tmp_path / "small").mkdir()
    prefix = mounted("-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder))
    node = Node(tmp_path, registry=folder / "egress.db", prefix=prefix)
    async with Origin() as origin, HttpProxy() as proxy, node:
        await assign_everything(node, proxy)
        kept = ["exit"]
        for number in range(2000):
            name = f"more-{number}"
            answer = await node.ask("POST", "/proxies", name=name, host="h", notes="n" * 1000)
            if answer.status_code != 201:
                break
            kept.append(name)
        assert answer.status_code == 503, answer.text
        assert "full" in answer.json()["detail"]
        status = await node.change("GET", "/status")
        assert status["registry"]["proxies"] == len(kept)
        assert (await http_get(node.port, origin.url())).status == 200
    assert proxy.accepted == origin.accepted == 1


async def test_a_database_that_breaks_under_it_leaves_the_last_state_in_force(
    tmp_path: Path,
) -> None:
    async with Origin() as origin, HttpProxy() as proxy, Node(tmp_path) as node:
        await assign_everything(node, proxy)
        for file in tmp_path.glob("egress.db*"):
            file.unlink()
        _no_database(tmp_path / "egress.db")
        await node.wait_for_log("registry cannot be read, its last state stays in force")
        assert (await http_get(node.port, origin.url())).status == 200
        answer = await node.ask("POST", "/proxies", name="new", host="h")
        assert answer.status_code == 503
        assert (await node.change("GET", "/status"))["registry"]["error"]
    assert proxy.accepted == origin.accepted == 1


# --- two nodes


async def test_nodes_that_share_a_registry_follow_each_other_and_outlive_its_server(
    tmp_path: Path,
) -> None:
    env = {**os.environ, "EGRESS_KEY": "the key that both nodes have"}
    async with (
        postgres(tmp_path) as server,
        Origin() as origin,
        HttpProxy() as one,
        HttpProxy() as two,
    ):
        url = server.new_database()
        async with (
            Node(tmp_path / "a", registry=url, env=env) as a,
            Node(tmp_path / "b", registry=url, env=env) as b,
        ):
            id_ = await assign_everything(a, one)
            assert await _leaves_by(b, origin, one) < 2
            await a.change("PATCH", "/proxies", id=id_, port=two.port)
            assert await _leaves_by(b, origin, two) < 2
            await server.end()
            for node in (a, b):
                await node.wait_for_log("registry cannot be read, its last state stays in force")
                assert (await http_get(node.port, origin.url())).status == 200
            await server.__aenter__()
            await b.wait_for_log("registry can be read again")
            await b.change("PATCH", "/proxies", id=id_, port=one.port)
            assert await _leaves_by(a, origin, one) < 2
            for node in (a, b):
                assert "s3cret" not in node.output


async def _leaves_by(node: Node, origin: Origin, proxy: HttpProxy) -> float:
    """Seconds until a new flow of ``node`` leaves by ``proxy``."""
    before, started = proxy.accepted, time.monotonic()
    while proxy.accepted == before:
        assert time.monotonic() - started < 10
        await http_get(node.port, origin.url())
        await asyncio.sleep(0.02)  # what is measured is when, and nothing tells
    return time.monotonic() - started
