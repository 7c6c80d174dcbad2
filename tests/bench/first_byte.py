"""Time to the first byte by a proxy whose first address swallows packets and whose second answers.

In a network namespace, and in a mount namespace with a hosts file of its own: it takes root, or the
capability CAP_SYS_ADMIN. Each request goes by a proxy of a name that nobody has asked for before,
because the address that answered is dialled first from then on.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from egress_policy.policy.hop import STAGGER
from tests.bench import programs, web
from tests.bench.pairs import Aim, Row, row
from tests.e2e.network import black_hole, network
from tests.e2e.system import with_files
from tests.helpers.mitm import SCRIPT
from tests.helpers.ports import free_port

V4, V6 = "192.0.2.10", "2001:db8::10"
LOST_V4, LOST_V6 = "198.51.100.10", "2001:db8:1::10"

_NAMES = {
    "auto": ((LOST_V6, V4), (V6, V4)),
    "ipv4": ((LOST_V4, V4), (V4, LOST_V4)),
    "ipv6": ((LOST_V6, V6), (V6, LOST_V6)),
}
"""By family the addresses of a name in their order: the first one lost, and the first one good."""
_LIMIT = 400.0
_PATIENCE = 30.0


class NotPermitted(Exception):
    """There can be no namespaces here: why not."""


def measure(pairs: int) -> Iterator[Row]:
    """In place of ours a first address that is lost, of theirs one that answers. Raises
    ``NotPermitted``."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, hosts = free_port(), folder / "hosts"
        hosts.write_text("".join(_hosts(family, pairs) for family in _NAMES))
        try:
            prefix = with_files({"/etc/hosts": hosts})
            stack.enter_context(network(V4, V6, LOST_V4, LOST_V6))
        except pytest.skip.Exception as why:
            raise NotPermitted(str(why)) from why
        for lost in (LOST_V4, LOST_V6):
            stack.enter_context(black_hole(lost, port))
        policy = folder / "policy.json"
        policy.write_text(json.dumps(_policy(pairs, port)))
        sets = {"policy": policy, "hosts_file": hosts, "listen": "", "registry": ""}
        args = [f"--set=egress_{name}={value}" for name, value in sets.items()]
        mitmdump = programs.mitmdump(folder, "-s", str(SCRIPT), *args, prefix=prefix)
        proxy = stack.enter_context(mitmdump)
        found = asyncio.run(_session(pairs, proxy.port, port))
    for family, times in found.items():
        how = "auto" if family == "auto" else f"pinned to {family}"
        what = f"first byte, first address of the proxy lost, {how} (theirs: it answers)"
        yield row(what, "ms", times, Aim("ours", "<=", _LIMIT))


def _hosts(family: str, pairs: int) -> str:
    """Those of the warm-up have the number ``pairs``."""
    return "".join(
        f"{address} {name}\n"
        for number in range(pairs + 1)
        for name, addresses in zip(_pair(family, number), _NAMES[family], strict=True)
        for address in addresses
    )


def _pair(family: str, number: int) -> tuple[str, str]:
    """The names of the two proxies; for the targets that go by them the same with an `x`."""
    return f"{family}-lost-{number}.test", f"{family}-good-{number}.test"


def _policy(pairs: int, port: int) -> dict[str, object]:
    names = {
        name: family
        for family in _NAMES
        for number in range(pairs + 1)
        for name in _pair(family, number)
    }
    proxies = [
        {"name": name, "host": name, "port": port, "family": family}
        for name, family in names.items()
    ]
    rules = [{"hosts": [f"x.{name}"], "use": name} for name in names]
    return {"version": 1, "proxies": proxies, "rules": rules, "default": "refuse"}


async def _session(pairs: int, proxy: int, port: int) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    async with await asyncio.start_server(web.serve, (V4, V6), port):
        for family in _NAMES:
            for name in _pair(family, pairs):
                await _first_byte(proxy, name)
            found[family] = [await _both(proxy, family, number) for number in range(pairs)]
    return found


async def _both(proxy: int, family: str, number: int) -> tuple[float, float]:
    lost, good = _pair(family, number)
    if number % 2:
        ours, theirs = await _first_byte(proxy, lost), await _first_byte(proxy, good)
    else:
        theirs, ours = await _first_byte(proxy, good), await _first_byte(proxy, lost)
    if ours < STAGGER * 1000 or theirs >= STAGGER * 1000:
        raise RuntimeError(f"{family}: the lost address was not the first: {ours}, {theirs} ms")
    return ours, theirs


async def _first_byte(proxy: int, name: str) -> float:
    """Milliseconds until a client that connects has its answer."""
    async with asyncio.timeout(_PATIENCE):
        started = time.perf_counter()
        stream = await asyncio.open_connection("127.0.0.1", proxy)
        status, body = await web.get(stream, f"http://x.{name}/")
        took = (time.perf_counter() - started) * 1000
        stream[1].close()
        await stream[1].wait_closed()
    if status != 200:
        raise RuntimeError(f"{name}: {status} {body.decode()}")
    return took
