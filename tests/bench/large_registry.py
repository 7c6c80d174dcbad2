"""`python -m tests.bench.large_registry [--only alone|fleet]`: a registry as large as it gets.

Alone: mitmdump with 50,000 proxies, as many rules and a pool of 10,000 members in SQLite. Fleet:
five nodes on PostgreSQL with 10,000 proxies and 5,000 rules. Each figure has its aim; one that is
missed ends nothing.
"""

import argparse
import asyncio
import http.client
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from egress_policy.registry.secrets import load_key
from tests.bench import fleet, programs
from tests.bench.listener import await_api, p99
from tests.helpers.mitm import SCRIPT
from tests.helpers.ports import free_port

PROXIES, RULES, MEMBERS = 50_000, 50_000, 10_000
_STARTS, _PATCHES = 3, 8
_PATH = "/api/v1/management/proxies"


class Figure(NamedTuple):
    """``aim`` is the most that ``value`` should be, or the least if it is negative."""

    what: str
    value: float
    unit: str
    aim: float | None = None

    def __str__(self) -> str:
        text = f"{self.what:<58}{self.value:>8.0f} {self.unit}"
        if self.aim is None:
            return text
        met = self.value >= -self.aim if self.aim < 0 else self.value <= self.aim
        sense = ">=" if self.aim < 0 else "<="
        return f"{text:<76}{sense} {abs(self.aim):g}  {'met' if met else 'MISSED'}"


def alone() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        key = load_key(folder, {})
        fleet.fill(str(folder / "egress.db"), key, PROXIES, RULES, MEMBERS)
        args = ["-s", str(SCRIPT), f"--set=egress_listen=127.0.0.1:{port}"]
        starts = []
        for _ in range(_STARTS):
            started = time.perf_counter()
            with programs.mitmdump(folder, *args):
                await_api(port)  # its own port takes connections before the policy is there
                starts.append(_since(started))
        yield Figure("start, until the API listens", median(starts), "ms", 3500)
        with programs.nginx(folder) as origin, programs.mitmdump(folder, *args) as proxy:
            await_api(port)
            patches = _Patches(port, (folder / "egress-token").read_text().strip())
            yield Figure("first PATCH, until it is in force", patches.one(), "ms", 800)
            later = median(patches.one() for _ in range(_PATCHES))
            yield Figure("later PATCHes", later, "ms", 800)
            url = f"http://127.0.0.1:{origin.http}/"
            asyncio.run(p99(proxy.port, url, 1))  # to warm up
            yield Figure(
                "p99 of requests, nothing else", asyncio.run(p99(proxy.port, url, 10)), "ms"
            )
            with patches:
                under = asyncio.run(p99(proxy.port, url, 10))
            yield Figure("p99 of requests, one PATCH after the other", under, "ms", 100)


class _Patches:
    """Edits through the API: one at a time, or in a thread as long as the context lasts."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        items = self._ask("GET", f"{_PATH}?limit=50")["items"]
        self._ids = [item["id"] for item in items]
        self._made = 0
        self._ended = threading.Event()

    def one(self) -> float:
        self._made += 1
        body = {"id": self._ids[self._made % len(self._ids)], "port": 2000 + self._made}
        started = time.perf_counter()
        self._ask("PATCH", _PATH, body)
        return _since(started)

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._many)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _many(self) -> None:
        while not self._ended.is_set():
            self.one()

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, list[dict[str, str]]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        with connection.getresponse() as response:
            answer = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(answer)
        found: dict[str, list[dict[str, str]]] = json.loads(answer)
        return found


def together() -> Iterator[Figure]:
    found = asyncio.run(fleet.measure())
    yield Figure("5 nodes: an edit in force on all, p50", found.p50, "ms")
    yield Figure("5 nodes: an edit in force on all, p99", found.p99, "ms", 400)
    yield Figure("5 nodes: edits a second, each after the one before", found.rate, "/s", -10)
    yield Figure("5 nodes: CPU of one that follows 5 edits a second", found.cpu, "%", 15)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parts = {"alone": alone, "fleet": together}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=parts, help="one part of it")
    only = parser.parse_args().only
    for name, part in parts.items():
        if only not in (None, name):
            continue
        try:
            for figure in part():
                print(figure, flush=True)
        except pytest.skip.Exception as missing:  # raised where a program is not installed
            print(f"left out, {name}: {missing}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
