"""The load: a light HTTP/1.1 client in a process of its own, so that it shares no lock with anyone.

It sends to both sides of a comparison in turn, in slices of a fraction of a second, so that
whatever else the machine does hits both alike. The process takes one `Job` as a line of JSON and
answers with one line: the pairs it measured, or what went wrong. `Load` is the other end of that.
"""

import asyncio
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

from tests.bench.processes import cpu_of

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE = 30.0
_SETTLE = 0.01
_WARM_UP = 3

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Side:
    """An HTTP proxy on loopback, and all processes that work when it does."""

    proxy: int
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """GETs of `scheme://host:port/` through each of two sides, `requests` in a slice.

    They go over `connections` at a time: kept alive and opened before the clock starts, or, if
    `fresh`, a new one for every request. A pair is four slices (ABBA, the next one BAAB); there
    are `most` of them, or fewer, `least`, once `seconds` are over.
    """

    sides: tuple[Side, Side]
    scheme: str
    host: str
    port: int
    requests: int
    fresh: bool
    least: int
    most: int
    seconds: float
    connections: int = 8

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Round:
    """What one side took for its slices of a pair: seconds, and CPU seconds of its processes."""

    requests: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU time a request."""
        return self.cpu / self.requests * 1000


class LoadError(Exception):
    """A request was not answered with 200."""


class Load:
    """The load process, seen from the benchmark."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def run(self, job: Job) -> list[tuple[Round, Round]]:
        """The pairs of the job. Raises LoadError."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the load is gone"}')
        if "error" in answer:
            raise LoadError(f"{job}: {answer['error']}")
        return [(Round(**ours), Round(**theirs)) for ours, theirs in answer["pairs"]]


class Lane:
    """The connections to one side."""

    def __init__(self, side: Side, job: Job) -> None:
        self.side = side
        self.job = job
        self.streams: list[Stream] = []

    async def open(self) -> None:
        if not self.job.fresh:
            self.streams = [await self._connect() for _ in range(self.job.connections)]
        for _ in range(_WARM_UP):
            await self.slice()

    async def hold(self, count: int) -> None:
        """Open so many connections more, with one request over each, and keep them."""
        for _ in range(count):
            stream = await self._connect()
            await self._get(stream)
            self.streams.append(stream)

    def close(self) -> None:
        for _, writer in self.streams:
            writer.close()

    async def slice(self) -> Round:
        left = iter(range(self.job.requests))
        cpu, started = self._cpu(), time.perf_counter()
        async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as group:
            for number in range(self.job.connections):
                group.create_task(
                    self._fresh(left) if self.job.fresh else self._alive(self.streams[number], left)
                )
        seconds = time.perf_counter() - started
        await asyncio.sleep(_SETTLE)  # what is done after an answer is this side's work too
        return Round(self.job.requests, seconds, self._cpu() - cpu)

    def _cpu(self) -> float:
        return sum(map(cpu_of, self.side.pids))

    async def _alive(self, stream: Stream, left: Iterator[int]) -> None:
        for _ in left:
            await self._get(stream)

    async def _fresh(self, left: Iterator[int]) -> None:
        for _ in left:
            stream = await self._connect()
            await self._get(stream)
            stream[1].close()

    async def _connect(self) -> Stream:
        stream = await asyncio.open_connection("127.0.0.1", self.side.proxy)
        if self.job.scheme == "https":
            await self._exchange(stream, f"CONNECT {self.job.authority} HTTP/1.1", has_body=False)
            await stream[1].start_tls(_TLS, server_hostname=self.job.host)
        return stream

    async def _get(self, stream: Stream) -> None:
        origin = "" if self.job.scheme == "https" else f"http://{self.job.authority}"
        await self._exchange(stream, f"GET {origin}/ HTTP/1.1")

    async def _exchange(self, stream: Stream, line: str, has_body: bool = True) -> None:
        reader, writer = stream
        host = self.job.authority
        writer.write(f"{line}\r\nHost: {host}\r\nUser-Agent: bench\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if not head.startswith(b"HTTP/1.1 200 ") or (has_body and not body):
            raise LoadError(f"{line}: {head[:40]!r} {body[:400]!r}")


async def _run(job: Job) -> list[tuple[Round, Round]]:
    lanes = [Lane(side, job) for side in job.sides]
    for lane in lanes:
        await lane.open()
    pairs: list[tuple[Round, Round]] = []
    deadline = time.monotonic() + job.seconds
    while len(pairs) < job.most and (len(pairs) < job.least or time.monotonic() < deadline):
        found: tuple[list[Round], list[Round]] = ([], [])
        for place in (0, 1, 1, 0):
            number = place ^ len(pairs) & 1
            found[number].append(await lanes[number].slice())
        pairs.append((_sum(found[0]), _sum(found[1])))
    for lane in lanes:
        lane.close()
    return pairs


def _sum(slices: list[Round]) -> Round:
    return Round(
        sum(one.requests for one in slices),
        sum(one.seconds for one in slices),
        sum(one.cpu for one in slices),
    )


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # checking is the client's business, not what is measured
    context.verify_mode = ssl.CERT_NONE
    return context


_TLS = _context()


def _job(text: str) -> Job:
    fields: dict[str, Any] = json.loads(text)
    first, second = (Side(**side) for side in fields.pop("sides"))
    return Job((first, second), **fields)


def main() -> None:
    for line in sys.stdin:
        try:
            pairs = asyncio.run(_run(_job(line)))
            answer: dict[str, object] = {"pairs": [list(map(asdict, pair)) for pair in pairs]}
        except* (LoadError, OSError, EOFError) as errors:
            answer = {"error": repr(errors.exceptions[0])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
