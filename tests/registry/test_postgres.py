"""A server that does not answer: beside the real one in ``e2e/test_postgres.py``."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from egress_policy.errors import RegistryDown
from egress_policy.registry.database import Database
from egress_policy.registry.engines import parse_location
from egress_policy.registry.limits import DatabaseLimits
from egress_policy.registry.postgres import NoAnswer, connect_within

SILENCE = 0.3
LIMITS = DatabaseLimits(SILENCE)
READY = b"Z" + struct.pack("!I", 5) + b"I"
LOGGED_IN = b"R" + struct.pack("!II", 8, 0) + READY


@contextmanager
def server(answers: int) -> Iterator[dict[str, Any]]:
    """How to connect to a server that answers so many messages, the login among them, and then
    keeps its connections open and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                for number in range(answers):
                    asked = connection.recv(65536)
                    done = b"C" + struct.pack("!I", 8) + b"SET\0"
                    statements = asked.count(b";") + 1
                    connection.sendall(done * statements + READY if number else LOGGED_IN)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = listener.getsockname()[1]
            none = {"sslmode": "disable", "gssencmode": "disable"}
            yield {"host": "127.0.0.1", "port": port, "user": "u", "password": "s3cret", **none}
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@contextmanager
def soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert SILENCE <= time.monotonic() - started < SILENCE + 2


@pytest.mark.parametrize("answers", [0, 1], ids=["login", "session"])
def test_server_that_takes_a_connection_and_says_nothing(answers: int) -> None:
    with (
        server(answers) as place,
        soon(),
        pytest.raises(NoAnswer, match=r"not answered for 0\.3 s"),
    ):
        connect_within(LIMITS, **place)


def test_connection_on_which_nothing_comes_any_more_is_closed() -> None:
    with server(2) as place:
        connection = connect_within(LIMITS, **place)
        with soon(), pytest.raises(NoAnswer):
            connection.execute("SELECT 1")
        assert connection.closed


def test_names_that_nobody_looks_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> Any:
        release.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with soon(), pytest.raises(NoAnswer):
            connect_within(LIMITS, host="db.test", user="u")
    finally:
        release.set()


def test_connection_that_comes_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    release, made = threading.Event(), threading.Event()
    closed: list[bool] = []

    class Late:
        def close(self) -> None:
            closed.append(True)
            made.set()

    def connect(*_: object, **__: object) -> Late:
        release.wait()
        return Late()

    monkeypatch.setattr("egress_policy.registry.postgres._connect", connect)
    with pytest.raises(NoAnswer):
        connect_within(LIMITS)
    release.set()
    assert made.wait(10)
    assert closed == [True]


def test_what_connecting_raises_is_raised() -> None:
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect_within(DatabaseLimits(10), host="127.0.0.1", port="1", user="u")


def test_what_a_person_reads_names_the_place_and_no_secret() -> None:
    with server(0) as place:
        url = f"postgresql://u:s3cret@127.0.0.1:{place['port']}/d?sslmode=disable"
        database = Database(parse_location(url), SILENCE)
        with soon(), pytest.raises(RegistryDown) as caught, database.read():
            pass
        database.close()
    assert str(caught.value) == (
        f"The registry postgresql://127.0.0.1:{place['port']}/d cannot be used: "
        "the database has not answered for 0.3 s"
    )
    assert caught.value.retry_after == 5
