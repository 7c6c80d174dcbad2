"""Where the registry lies, and the SQLAlchemy engine for SQLite or PostgreSQL."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ..errors import InvalidEntry, RegistryUnavailable
from .limits import DatabaseLimits
from .stray_log import LogCheck, log_of

OPTION: Final = "egress_registry"

_MEMORY: Final = ":memory:"
_BUSY_SECONDS: Final = 5
_AHEAD: Final = 3
"""Connections: to wait for changes, to write and to read. The pool keeps five."""


def parse_location(text: str) -> URL:
    """The option ``egress_registry``: a path, ``:memory:`` or an SQLAlchemy URL.

    Raises ``InvalidEntry``, which does not quote the text: it may hold a password.
    """
    if "\0" in text or not text:
        raise InvalidEntry(f"{OPTION}: this is not a path", OPTION)
    if text == _MEMORY:
        return URL.create("sqlite", database=text)
    try:
        if "://" not in text:
            return URL.create("sqlite", database=str(Path(text).expanduser()))
        url = make_url(text)
    except (SQLAlchemyError, ValueError, RuntimeError) as error:
        raise InvalidEntry(
            f"{OPTION}: this is neither a path nor a database URL", OPTION
        ) from error
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in ("sqlite", "sqlite+pysqlite") and not (url.host or url.query):
        return url.set(drivername="sqlite", database=url.database or _MEMORY)
    raise InvalidEntry(f"{OPTION}: a path, postgresql+psycopg:// or sqlite:/// is expected", OPTION)


def describe_location(url: URL) -> str:
    """The location, without user and password."""
    if url.get_backend_name() == "postgresql":
        return f"postgresql://{url.host or ''}:{url.port or 5432}/{url.database or ''}"
    return url.database or _MEMORY


def is_missing_file(url: URL) -> bool:
    """Whether it is an SQLite file that does not exist."""
    path = url.database if url.get_backend_name() == "sqlite" else None
    return path is not None and path != _MEMORY and not Path(path).exists()


def make_engine(url: URL, limits: DatabaseLimits) -> Engine:
    """An engine that has not connected yet. Raises ``OSError`` if the SQLite file cannot be made,
    and ``RegistryUnavailable`` if the driver is missing."""
    return _postgres(url, limits) if url.get_backend_name() == "postgresql" else _sqlite(url)


def use_write_ahead_log(engine: Engine) -> None:
    """Let readers of an SQLite file go on while it is written. The file keeps this mode."""
    # Another process that uses the file may prevent it: then the next start does it.
    with (
        contextlib.suppress(sqlite3.Error, SQLAlchemyError),
        contextlib.closing(engine.raw_connection()) as connection,
    ):
        connection.cursor().execute("PRAGMA journal_mode=WAL")


def open_ahead(engine: Engine) -> None:
    """Open as many connections to an SQLite file as are used at once. The registry can then be read
    and changed when the process has no file descriptor left."""
    # If it fails, the first use of a connection reports it.
    with contextlib.suppress(sqlite3.Error, SQLAlchemyError), contextlib.ExitStack() as opened:
        for _ in range(_AHEAD if engine.url.database != _MEMORY else 0):
            connection = opened.enter_context(contextlib.closing(engine.raw_connection()))
            # The log is opened when something is read.
            connection.cursor().execute("SELECT count(*) FROM sqlite_master").fetchone()


def _sqlite(url: URL) -> Engine:
    options: dict[str, Any] = {"hide_parameters": True}
    if url.database == _MEMORY:
        # The database is its one connection: uses wait for each other.
        options |= {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
        engine = create_engine(url, creator=lambda: _connect(_MEMORY), **options)
    else:
        path = Path(url.database or "").absolute()
        _make_file(path)
        uri = f"{path.as_uri()}?mode=rw"  # a file that is gone is not made again
        check = _FileCheck(path)
        engine = create_engine(url, creator=lambda: check.connect(uri), **options)
        check.listen(engine)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=_BUSY_SECONDS,
        check_same_thread=False,
        isolation_level=None,  # ``_begin_sqlite`` begins transactions
    )
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(
            "PRAGMA synchronous=FULL"
        )  # a change that was answered survives a power cut
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class _FileCheck:
    """Gives up connections to a file that was removed or replaced: what they write would be lost.
    Beside the log of another file it opens none, and closes none in a way that applies the log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = LogCheck(path)

    def connect(self, uri: str) -> sqlite3.Connection:
        self._require_own_log()
        return _connect(uri)

    def listen(self, engine: Engine) -> None:
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "checkout", self._taken)
        event.listen(engine, "close", self._closed)

    def _connected(self, _: object, record: ConnectionPoolEntry) -> None:
        record.info["inode"] = self._log.inode = self._inode()

    def _taken(self, _: object, record: ConnectionPoolEntry, __: object) -> None:
        if record.info["inode"] != self._inode():
            raise DisconnectionError
        self._require_own_log()

    def _closed(self, connection: sqlite3.Connection, _: object) -> None:
        if self._log.is_stray():
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)

    def _require_own_log(self) -> None:
        if self._log.is_stray():
            name, log = self._path.name, log_of(self._path).name
            raise sqlite3.OperationalError(
                f"{name} was put beside {log}, which was written for another file and would be "
                f"applied to it. Stop what uses the registry, remove {log} and {name}-shm, and put "
                f"the file there once more; or run `touch {log}` to have it applied"
            )

    def _inode(self) -> int | None:
        try:
            return self._path.stat().st_ino
        except OSError:
            return None


def _begin_sqlite(connection: Connection) -> None:
    # A reader that turned writer within a transaction would fail at once while the file is busy.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres(url: URL, limits: DatabaseLimits) -> Engine:
    try:
        from .postgres import make_postgres_engine
    except ModuleNotFoundError as error:
        raise RegistryUnavailable(
            "A registry in PostgreSQL needs psycopg: "
            "pip install 'mitmproxy-egress-policy[postgres]'"
        ) from error
    return make_postgres_engine(url, limits)
