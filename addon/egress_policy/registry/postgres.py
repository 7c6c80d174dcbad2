"""PostgreSQL that may hang: every wait for it has a limit here, by the monotonic clock.

A server that is stopped, cut off or waits for a lock keeps its connections open and says nothing.
A connection that is silent for longer than its ``DatabaseLimits`` allow is closed, and the caller
gets an ``OperationalError``. The limit also holds for looking up names, connecting and logging in.
"""

import threading
import time
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, Final

import psycopg
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext

from .limits import SILENCE, DatabaseLimits

_ARGUMENTS: Final = {
    "application_name": "egress-policy",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_SESSION: Final = """
    SET lock_timeout = '4s';
    SET statement_timeout = '60s';
    SET idle_in_transaction_session_timeout = '60s'
"""
"""The server gives up as well. Otherwise abandoned statements would pile up there, and a node that
is stopped within a write would keep all others from writing."""


class NoAnswer(psycopg.OperationalError):
    """The server was silent for too long. The connection is closed."""

    def __init__(self, silence: float) -> None:
        super().__init__(f"the database has not answered for {silence:g} s")


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself and raises ``NoAnswer`` when the server keeps silent."""

    limits = DatabaseLimits()

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Every wait for the server goes through here."""
        try:
            return super().wait(_limited(gen, self.limits.silence), *args, **kwargs)
        except NoAnswer:
            self.close()
            raise


def make_postgres_engine(url: URL, limits: DatabaseLimits) -> Engine:
    """An engine that has not connected yet."""
    arguments = {key: text for key, text in _ARGUMENTS.items() if key not in url.query}
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=SILENCE,
        connect_args=arguments,
        hide_parameters=True,
    )

    def connect(
        _: object, __: object, args: list[str], arguments: dict[str, Any]
    ) -> BoundedConnection:
        return connect_within(limits, *args, **arguments)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "handle_error", _ask_no_second_time)
    return engine


def connect_within(limits: DatabaseLimits, *args: str, **arguments: Any) -> BoundedConnection:
    """Connect in a thread, because nothing else ends a name look-up that hangs. A connection that
    comes too late is closed."""
    made: Future[BoundedConnection] = Future()

    def run() -> None:
        try:
            made.set_result(_connect(limits, *args, **arguments))
        except BaseException as error:  # noqa: BLE001 (the waiting thread raises it)
            made.set_exception(error)

    threading.Thread(target=run, name="egress-registry connect", daemon=True).start()
    try:
        return made.result(silence := limits.silence)
    except TimeoutError:
        made.add_done_callback(_close)
        raise NoAnswer(silence) from None


def _connect(limits: DatabaseLimits, *args: str, **arguments: Any) -> BoundedConnection:
    connection = BoundedConnection.connect(*args, autocommit=True, **arguments)
    try:
        connection.limits = limits
        connection.execute(_SESSION)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection


def _limited[T](steps: Generator[T, Any, Any], silence: float) -> Generator[T, Any, Any]:
    """The steps of an exchange with the server, until it is silent for too long between two.

    psycopg asks for the next one when something has come and, from version 3.2.13 on, every 0.1 s
    when nothing has.
    """
    until = time.monotonic() + silence
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if ready:
                until = time.monotonic() + silence
            elif time.monotonic() > until:
                raise NoAnswer(silence)
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value


def _ask_no_second_time(context: ExceptionContext) -> None:
    """Do not replace a pooled connection that does not answer: a new one would not be answered
    either, and take as long."""
    if context.is_pre_ping and isinstance(context.original_exception, NoAnswer):
        context.is_disconnect = False


def _close(made: Future[BoundedConnection]) -> None:
    if not made.exception():
        made.result().close()
