"""A TCP relay that can stop relaying, as if a packet filter dropped everything. Connections stay
open, and only the kernel accepts new ones."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Relay:
    """Relays ``port`` to another port while it is ``open``. If a client sends ``stop_at``, these
    bytes still get through, but relaying stops and no answer comes back."""

    def __init__(self, to: int) -> None:
        self.open = threading.Event()
        self.open.set()
        self.stop_at = b""
        self._to = to
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = False
        self._spawn(self._accept)

    def end(self) -> None:
        self._ended = True
        self.open.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()

    def _spawn(self, run: object, *args: socket.socket) -> None:
        thread = threading.Thread(target=run, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended:
            self.open.wait()
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._sockets += [client, server]
            self._spawn(self._ask, client, server)
            self._spawn(self._answer, server, client)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                self.open.wait()
                if self.stop_at and self.stop_at in data:
                    self.open.clear()
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                self.open.wait()
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(to: int) -> Iterator[Relay]:
    running = Relay(to)
    try:
        yield running
    finally:
        running.end()
