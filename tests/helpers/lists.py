"""A server that hands out lists of proxies, whole or broken."""

import asyncio
import ssl

from tests.helpers.server import LabServer


class ListServer(LabServer):
    """Answers with ``text``, or with ``raw``, where that is set, as it is; then it closes.
    ``heads`` are the requests. With ``silent`` it says nothing."""

    def __init__(self, text: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self.text, self.raw, self.silent = text, b"", False
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        self.changed()
        if self.silent:
            await asyncio.Event().wait()
        writer.write(self.raw or answer(self.text))
        await writer.drain()

    def url(self, name: str = "127.0.0.1", path: str = "/list") -> str:
        return f"{'https' if self._tls else 'http'}://{name}:{self.port}{path}"


def answer(body: str | bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer of HTTP/1.1."""
    data = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + data
