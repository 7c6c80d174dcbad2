"""A policy file of ten thousand proxies and as many rules, edited under a stream of requests.

Each edit turns what the stream asks for from allowed to refused or back, so that the stream itself
shows when the edit is in force. A file of ten stands beside it: it shows how long the watch waits
for an edit to settle, and what the machine does meanwhile.
"""

import asyncio
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import loop_probe, programs, web
from tests.bench.pairs import Aim, Row, row
from tests.helpers.mitm import SCRIPT

MANY, FEW = 10_000, 10
RATE = 60
"""Requests a second, whether or not the ones before were answered."""
_TARGET = "127.0.0.1"
_CALM = 0.5
"""Seconds between two edits at least, so that they are told apart."""
_EDITS = 4
_PATIENCE = 60.0


@dataclass
class _Times:
    """Milliseconds, one number for each start."""

    start: list[float] = field(default_factory=list)
    in_force: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    stall: list[float] = field(default_factory=list)


_ROWS: dict[str, tuple[str, float | None]] = {
    "start": ("start-up until the first answer", 2_500.0),
    "in_force": ("edit until it is in force", 1_500.0),
    "p50": (f"p50 of {RATE} requests/s meanwhile", None),
    "p99": (f"p99 of {RATE} requests/s meanwhile", None),
    "stall": ("longest stall of the loop for it", 100.0),
}


def measure(pairs: int) -> Iterator[Row]:
    """In place of ours the large file, of theirs the small one."""
    for kind, write in _KINDS.items():
        many, few = _Times(), _Times()
        for number in range(pairs):
            sides = [(MANY, many), (FEW, few)]
            for size, times in reversed(sides) if number % 2 else sides:
                with tempfile.TemporaryDirectory() as folder:
                    _session(Path(folder), size, write, times)
        for name, (what, limit) in _ROWS.items():
            found = list(zip(getattr(many, name), getattr(few, name), strict=True))
            aims = () if limit is None else (Aim("ours", "<=", limit),)
            yield row(f"{kind} file of {MANY:,}: {what} (theirs: {FEW})", "ms", found, *aims)


def _policy(size: int, use: str) -> dict[str, Any]:
    """``use`` is what the stream takes."""
    proxies = [
        {
            "name": f"p{n}",
            "type": "socks5",
            "host": f"proxy-{n}.example",
            "port": 1080,
            "family": "ipv6",
            "username": f"user-{n}",
            "password": "secret",
        }
        for n in range(size)
    ]
    rules = [{"hosts": [f"*.host-{n}.example"], "use": f"p{n}"} for n in range(size)]
    first = {"hosts": [_TARGET], "use": use}
    return {"version": 1, "proxies": proxies, "rules": [first, *rules], "default": "refuse"}


def _yaml(policy: dict[str, Any]) -> str:
    """As people write it: proxies a key a line, rules one a line."""
    lines = ["version: 1", "proxies:"]
    for proxy in policy["proxies"]:
        first, *more = (f"{key}: {value}" for key, value in proxy.items())
        lines += [f"  - {first}", *(f"    {pair}" for pair in more)]
    lines.append("rules:  # the first match wins")
    lines += [
        f'  - {{hosts: ["{rule["hosts"][0]}"], use: {rule["use"]}}}' for rule in policy["rules"]
    ]
    return "\n".join([*lines, f"default: {policy['default']}", ""])


_KINDS: dict[str, Callable[[dict[str, Any]], str]] = {"JSON": json.dumps, "YAML": _yaml}


def _session(
    folder: Path, size: int, write: Callable[[dict[str, Any]], str], times: _Times
) -> None:
    """One start, and some edits."""
    refused, allowed = (write(_policy(size, use)) for use in ("refuse", "direct"))
    file = folder / "policy"
    file.write_text(allowed)
    programs.make_ca(folder)
    args = [f"--set=egress_policy={file}", "--set=egress_listen=", "--set=egress_registry="]
    time.sleep(_CALM)  # a file that was written just now is waited for
    started = time.perf_counter()
    with programs.mitmdump(folder, "-s", loop_probe.__file__, "-s", str(SCRIPT), *args) as proxy:
        stream = _Stream(proxy.port)
        edits = [(refused, 503), (allowed, 200)] * (_EDITS // 2)
        asyncio.run(stream.run(file, edits))
    times.start.append((stream.first_answer - started) * 1000)
    times.in_force.append(statistics.median(stream.in_force))
    times.p50.append(statistics.median(stream.waited))
    times.p99.append(statistics.quantiles(stream.waited, n=100)[98])
    times.stall.append(max(stream.stalls))


class _Stream:
    """Asks for the same thing all the time. ``waited`` are the milliseconds of each request, from
    when it was due, that was answered between an edit and when that was in force."""

    def __init__(self, proxy: int) -> None:
        self.first_answer = 0.0
        self.in_force: list[float] = []
        self.waited: list[float] = []
        self.stalls: list[float] = []
        self._proxy = proxy
        self._idle: list[web.Stream] = []
        self._answers: list[tuple[float, int]] = []
        self._news = asyncio.Event()
        self._chance = random.Random(proxy)

    async def run(self, file: Path, edits: list[tuple[str, int]]) -> None:
        """``edits`` are texts, and the status that each brings."""
        async with await asyncio.start_server(web.serve, _TARGET, 0) as origin:
            url = f"http://{_TARGET}:{origin.sockets[0].getsockname()[1]}/"
            sending = asyncio.create_task(self._send(url))
            try:
                async with asyncio.timeout(_PATIENCE * (1 + len(edits))):
                    await self._until(200, sending)
                    self.first_answer = time.perf_counter()
                    for text, status in edits:
                        await self._edit(file, text, status, sending)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                for _, writer in self._idle:
                    writer.close()

    async def _edit(
        self, file: Path, text: str, status: int, sending: "asyncio.Task[None]"
    ) -> None:
        await asyncio.sleep(self._chance.uniform(_CALM, 2 * _CALM))  # in no step with the watch
        await self._longest_stall()
        self._answers.clear()
        edited = time.perf_counter()
        file.write_text(text)
        await self._until(status, sending)
        self.in_force.append((time.perf_counter() - edited) * 1000)
        self.waited += [ms for ms, _ in self._answers]
        await asyncio.sleep(_CALM)  # what is old is thrown away a moment later
        self.stalls.append(await self._longest_stall())

    async def _until(self, status: int, sending: "asyncio.Task[None]") -> None:
        """A request has been answered so. Raises what ended the stream."""
        while not any(got == status for _, got in self._answers):
            self._news.clear()
            news = asyncio.create_task(self._news.wait())
            await asyncio.wait([news, sending], return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if sending.done():
                sending.result()

    async def _send(self, url: str) -> None:
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(due - time.perf_counter())
                group.create_task(self._note(url, due))
                due += 1 / RATE

    async def _note(self, url: str, due: float) -> None:
        status, _ = await self._get(url)
        self._answers.append(((time.perf_counter() - due) * 1000, status))
        self._news.set()

    async def _longest_stall(self) -> float:
        _, body = await self._get(f"http://{loop_probe.HOST}/")
        return float(body)

    async def _get(self, url: str) -> tuple[int, bytes]:
        """An edit cuts the connections that it does not allow any more: then by another one."""
        while True:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                if self._idle:
                    stream = self._idle.pop()
                else:
                    stream = await asyncio.open_connection("127.0.0.1", self._proxy)
                try:
                    answer = await web.get(stream, url)
                except BaseException:
                    stream[1].close()
                    raise
                self._idle.append(stream)
                return answer
            await asyncio.sleep(0.01)
