"""The load: a light HTTP/1.1 client in a process of its own, so that it shares no lock with anyone.

The process takes one `Job` as a line of JSON, runs it, and answers with one line: the seconds it
took, or what went wrong. `Load` is the other end of that.
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
from typing import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE = 100.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Job:
    """`requests` GETs of `scheme://host:port/` through the HTTP proxy on loopback `proxy`.

    They go over `connections` at a time: kept alive and opened before the clock starts, or, if
    `fresh`, a new one for every request.
    """

    proxy: int
    scheme: str
    host: str
    port: int
    requests: int
    fresh: bool = False
    connections: int = 8

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


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

    def run(self, job: Job) -> float:
        """Seconds that the job took. Raises LoadError."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the load is gone"}')
        if "error" in answer:
            raise LoadError(f"{job}: {answer['error']}")
        return float(answer["seconds"])


async def _run(job: Job) -> float:
    async with asyncio.timeout(_PATIENCE):
        if job.fresh:
            streams: list[Stream] = []
        else:
            streams = [await _open(job) for _ in range(job.connections)]
            for stream in streams:  # all that is done once a connection
                await _get(stream, job)
        left = iter(range(job.requests))
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(job.connections):
                worker = _fresh(job, left) if job.fresh else _alive(streams[number], job, left)
                group.create_task(worker)
        taken = time.perf_counter() - started
        for _, writer in streams:
            writer.close()
        return taken


async def _alive(stream: Stream, job: Job, left: Iterator[int]) -> None:
    for _ in left:
        await _get(stream, job)


async def _fresh(job: Job, left: Iterator[int]) -> None:
    for _ in left:
        stream = await _open(job)
        await _get(stream, job)
        stream[1].close()


async def _open(job: Job) -> Stream:
    stream = await asyncio.open_connection("127.0.0.1", job.proxy)
    if job.scheme == "https":
        await _exchange(stream, f"CONNECT {job.authority} HTTP/1.1", job, has_body=False)
        await stream[1].start_tls(_TLS, server_hostname=job.host)
    return stream


async def _get(stream: Stream, job: Job) -> None:
    target = "/" if job.scheme == "https" else f"http://{job.authority}/"
    await _exchange(stream, f"GET {target} HTTP/1.1", job)


async def _exchange(stream: Stream, line: str, job: Job, has_body: bool = True) -> None:
    reader, writer = stream
    writer.write(f"{line}\r\nHost: {job.authority}\r\nUser-Agent: bench\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    if not head.startswith(b"HTTP/1.1 200 ") or (has_body and not body):
        raise LoadError(f"{line}: {head[:40]!r} {body[:400]!r}")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # checking is the client's business, not what is measured
    context.verify_mode = ssl.CERT_NONE
    return context


_TLS = _context()


def main() -> None:
    for line in sys.stdin:
        try:
            answer: dict[str, object] = {"seconds": asyncio.run(_run(Job(**json.loads(line))))}
        except* (LoadError, OSError, EOFError) as errors:
            answer = {"error": repr(errors.exceptions[0])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
