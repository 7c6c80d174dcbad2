"""Attacks on the management listener: `EGRESS_TOKEN=… python -m tests.bench.attacks KIND PORT`.

Runs one of them until it is ended, as fast as one process can, and gives way to what is measured.
"""

import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

MANY = 200


class Attack:
    """What there is to attack with: the port, and the token for those who have one."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    # -- without a token

    def crumbs(self) -> None:
        """A body in chunks of one byte, for another host name."""
        chunked = "Transfer-Encoding: chunked"
        head = self._head("POST", "/api/v1/management/proxies", chunked, "evil.test")
        crumbs = b"1\r\nx\r\n" * 20_000
        for connection in self._connections():
            _send(connection, head, *itertools.repeat(crumbs, 500))

    def bodies(self) -> None:
        """Posts of 64 MiB to the page and to the live view, twenty at a time."""
        size = 64 * 1024 * 1024
        paths = itertools.cycle(("/", "/api/v1/management/flows/live"))
        body = b"x" * 65536

        def post() -> None:
            for connection in self._connections():
                head = self._head("POST", next(paths), f"Content-Length: {size}")
                _send(connection, head, *itertools.repeat(body, size // len(body)))

        _at_once(20, post)

    def slowly(self) -> None:
        """Many connections whose heads never end."""
        open_ = [self._connect() for _ in range(MANY)]
        start = b"GET / HTTP/1.1\r\nHost: x\r\n"
        while True:
            for number, connection in enumerate(open_):
                if connection is None or not _send(connection, start if not number else b"X"):
                    open_[number] = self._connect()
            time.sleep(0.05)

    def flood(self) -> None:
        """Connections that are closed at once."""
        for connection in self._connections():
            connection.close()

    def pages(self) -> None:
        """The largest of what anybody may read."""
        head = self._head("GET", "/openapi.json")
        _at_once(8, lambda: self._ask(head))

    def tokens(self) -> None:
        """Wrong tokens."""
        head = self._head("GET", "/api/v1/management/status", "Authorization: Bearer wrong")
        _at_once(8, lambda: self._ask(head))

    # -- with it

    def readers(self) -> None:
        """Many who follow the live view and never read."""
        head = self._head("GET", "/api/v1/management/flows/live", self._proof)
        open_ = []
        for connection in itertools.islice(self._connections(), MANY):
            _send(connection, head)
            open_.append(connection)
        time.sleep(3600)

    def exports(self) -> None:
        """Exports of the whole registry, four at a time."""
        head = self._head("GET", "/api/v1/management/proxies/export?format=json", self._proof)
        _at_once(4, lambda: self._ask(head))

    # -- how

    @property
    def _proof(self) -> str:
        return f"Authorization: Bearer {self._token}"

    def _head(self, method: str, path: str, header: str = "", host: str = "") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self._port}'}", header]
        lines += ["Content-Type: application/json"] * (method == "POST")
        return "\r\n".join([*filter(None, lines), "", ""]).encode()

    def _connect(self) -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", self._port), 5)
        except OSError:
            return None

    def _connections(self) -> Iterator[socket.socket]:
        while True:
            if connection := self._connect():
                yield connection

    def _ask(self, head: bytes) -> None:
        for connection in self._connections():
            _send(connection, head)
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                pass
            connection.close()


KINDS = ("crumbs", "bodies", "slowly", "flood", "pages", "tokens", "readers", "exports")


def _send(connection: socket.socket, *pieces: bytes) -> bool:
    """Whether all of it could be sent."""
    try:
        for piece in pieces:
            connection.sendall(piece)
    except OSError:
        return False
    return True


def _at_once(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    kind, port = sys.argv[1:]
    os.nice(10)
    getattr(Attack(int(port), os.environ["EGRESS_TOKEN"]), kind)()


if __name__ == "__main__":
    main()
