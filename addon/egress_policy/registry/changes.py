"""Notices that the registry was changed, here or on another node.

The revision is polled. In PostgreSQL a notification of the change ends the pause before the next
poll; if none arrives, the poll comes soon enough.
"""

import contextlib
import threading
import time
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .database import CHANNEL, Database

INTERVAL: Final = 0.5
"""Seconds between polls, and the longest that ``close`` waits."""


class Changes:
    """Serves one waiting thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._listener: Connection | None = None

    def wait(self, seen: int, timeout: float) -> int:
        """Wait up to ``timeout`` seconds for a revision other than ``seen``, and return it.

        Raises ``RegistryUnavailable``. After ``end`` it returns ``seen`` at once.
        """
        end = time.monotonic() + timeout
        with self._waiting:
            while not self._closed.is_set():
                self._listen()  # before the poll, so that no change falls in between
                revision = self._database.revision()
                left = end - time.monotonic()
                if revision != seen or left <= 0:
                    return revision
                self._pause(min(left, INTERVAL))
        return seen

    def end(self) -> None:
        """End a ``wait`` in another thread, without waiting for that thread."""
        self._closed.set()

    def close(self) -> None:
        self.end()
        with self._waiting:
            self._deafen()

    def _listen(self) -> None:
        if self._database.is_postgres and self._listener is None:
            with self._database.failing():
                autocommit = {"isolation_level": "AUTOCOMMIT"}
                listener = self._database.engine.connect().execution_options(**autocommit)
                listener.detach()  # nothing else can use it
                listener.exec_driver_sql(f"LISTEN {CHANNEL}")
            self._listener = listener

    def _pause(self, seconds: float) -> None:
        if self._listener is None:
            self._closed.wait(seconds)
            return
        connection: Any = self._listener.connection.dbapi_connection
        try:
            for _ in connection.notifies(timeout=seconds, stop_after=1):
                pass
        except connection.OperationalError:
            self._deafen()  # the next poll reports the failure, or listens again

    def _deafen(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(DBAPIError):
                self._listener.close()
            self._listener = None
