"""A dialogue with a layer: give it an event and look at its commands. No sockets."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mitmproxy import connection, options
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.test import taddons

C = TypeVar("C", bound=commands.Command)


@contextmanager
def addons(*given: object) -> Iterator[taddons.context]:  # noqa: TID251
    """A master with these addons, as mitmproxy has it for tests."""
    tctx = taddons.context(*given)  # noqa: TID251 (closed here)
    try:
        with tctx:
            yield tctx
    finally:
        # mitmproxy 12.2.0 leaves the loop open that it made where none was running.
        if not tctx.master.event_loop.is_running():
            tctx.master.event_loop.close()


@contextmanager
def proxyserver() -> Iterator[options.Options]:
    """The options of a master with the addon that knows connections."""
    with addons(Proxyserver()) as tctx:
        yield tctx.options


def make_context() -> context.Context:
    """A context with a connected client and mitmproxy's default options."""
    with proxyserver() as opts:
        pass
    client = connection.Client(
        peername=("192.0.2.99", 1234),
        sockname=("127.0.0.1", 8080),
        timestamp_start=time.time(),
        state=connection.ConnectionState.OPEN,
    )
    return context.Context(client, opts)


class Dialogue:
    """``got`` holds the commands that were issued and not yet taken with ``expect``."""

    def __init__(self, subject: layer.Layer) -> None:
        self.subject = subject
        self.got: list[commands.Command] = []

    def say(self, event: events.Event) -> "Dialogue":
        for command in self.subject.handle_event(event):
            command.blocking = command.blocking and self.subject
            self.got.append(command)
        return self

    def start(self) -> "Dialogue":
        return self.say(events.Start())

    def receive(self, conn: connection.Connection, data: bytes) -> "Dialogue":
        return self.say(events.DataReceived(conn, data))

    def opened(
        self,
        command: commands.OpenConnection,
        error: str | None = None,
        peer: str | None = None,
        local: str = "127.0.0.1",
    ) -> "Dialogue":
        """Report the socket as open (at the address ``peer``, if given), or as failed."""
        conn = command.connection
        conn.timestamp_start = time.time()
        if error is None and conn.address:
            conn.state = connection.ConnectionState.OPEN
            conn.peername = (peer or conn.address[0], conn.address[1])
            conn.sockname = (local, 40000)
            conn.timestamp_tcp_setup = time.time()
        return self.say(events.OpenConnectionCompleted(command, error))

    def closed(self, conn: connection.Connection) -> "Dialogue":
        conn.state = connection.ConnectionState.CLOSED
        return self.say(events.ConnectionClosed(conn))

    def hook_done(self, hook: commands.StartHook) -> "Dialogue":
        return self.say(events.HookCompleted(hook))

    def expect(self, kind: type[C]) -> C:
        """The next command, which must be of this kind."""
        assert self.got, f"no command where {kind.__name__} was expected"
        command = self.got.pop(0)
        assert isinstance(command, kind), f"{command} where {kind.__name__} was expected"
        return command

    def expect_nothing(self) -> None:
        assert not self.got, self.got


class Recorder(layer.Layer):
    """An innermost layer that opens connections on request and records what happens."""

    def __init__(self, ctx: context.Context) -> None:
        super().__init__(ctx)
        self.seen: list[events.Event] = []

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.seen.append(event)
        if isinstance(event, Do):
            yield event.command

    _handle_event = handle_event

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


class Do(events.Event):
    """Makes a ``Recorder`` issue a command."""

    def __init__(self, command: commands.Command) -> None:
        self.command = command
