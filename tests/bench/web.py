"""HTTP/1.1 as little as it takes: a server that answers everything alike, and a client."""

import asyncio
import contextlib
import re

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with 200, as an origin and as an HTTP proxy that need not ask one."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)
    writer.close()


async def get(stream: Stream, url: str) -> tuple[int, bytes]:
    """Status and body of a request to an HTTP proxy."""
    reader, writer = stream
    writer.write(f"GET {url} HTTP/1.1\r\nHost: {url.split('/')[2]}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return int(head[9:12]), await reader.readexactly(int(length[1]) if length else 0)
