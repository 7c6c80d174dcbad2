"""h11 on asyncio streams: one connection in either role, events in and out."""

import asyncio
from collections.abc import Iterable

import h11

Headers = Iterable[tuple[bytes, bytes]]


class H11Stream:
    """`role` is h11.SERVER or h11.CLIENT. Reading raises EOFError if there is no more to read:

    the peer left, in order or amid a message, or sends nonsense.
    """

    def __init__(
        self,
        role: type[h11.CLIENT] | type[h11.SERVER],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.state = h11.Connection(role)
        self.reader = reader
        self.writer = writer

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        try:
            while (event := self.state.next_event()) is h11.NEED_DATA:
                if self.state.they_are_waiting_for_100_continue:
                    await self.send(h11.InformationalResponse(status_code=100, headers=[]))
                self.state.receive_data(await self.reader.read(65536))
        except h11.RemoteProtocolError as error:
            raise EOFError(str(error)) from error
        assert not isinstance(event, type) or event is h11.PAUSED
        return event

    async def head[Head: (h11.Request, h11.Response)](self, kind: type[Head]) -> Head:
        """The head of the next message, without interim answers."""
        while isinstance(event := await self.next_event(), h11.InformationalResponse):
            pass
        if isinstance(event, kind):
            return event
        raise EOFError(event)

    async def body(self) -> bytes:
        """The rest of the current message."""
        body = b""
        while isinstance(event := await self.next_event(), h11.Data):
            body += event.data
        return body

    async def send(self, *events: h11.Event) -> None:
        for event in events:
            self.writer.write(self.state.send(event) or b"")
        await self.writer.drain()

    async def answer(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """A whole response with a body of known length."""
        length = (b"content-length", str(len(body)).encode())
        await self.send(
            h11.Response(status_code=status, headers=[*headers, length]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )

    def reuse(self) -> bool:
        """Prepare for the next message. False if the connection cannot carry one."""
        if self.state.our_state is h11.DONE and self.state.their_state is h11.DONE:
            self.state.start_next_cycle()
            return True
        return False
