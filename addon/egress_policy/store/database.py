"""Transactions on the registry's database, the revision they count, and how they fail."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import URL, Connection, func, select, text, update
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from ..errors import InvalidEntry
from .engines import describe_location, make_engine
from .errors import RegistryUnavailable
from .schema import revision

CHANNEL: Final = "egress_policy_revision"
"""Where a registry in PostgreSQL notifies of each new revision."""


class Database:
    """Raises ``RegistryUnavailable`` for what the database cannot do, ``InvalidEntry`` for values
    that it does not take."""

    def __init__(self, url: URL) -> None:
        self.name = describe_location(url)
        try:
            self.engine = make_engine(url)
        except OSError as error:
            raise self._unavailable(error.strerror or type(error).__name__) from error
        self.is_postgres = self.engine.dialect.name == "postgresql"

    def close(self) -> None:
        self.engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """All that is read in it is of one moment."""
        options: dict[str, Any] = {"writes": False}
        if self.is_postgres:
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            self.failing(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    @contextlib.contextmanager
    def write(self, *, keep: bool = True) -> Iterator[Connection]:
        """What is done in it is done whole or, as well without ``keep``, not at all."""
        options: dict[str, Any] = {"writes": True}
        if self.is_postgres:
            options |= {"isolation_level": "READ COMMITTED", "postgresql_readonly": False}
        with (
            self.failing(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin() as transaction,
        ):
            if self.is_postgres:
                connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            yield connection
            if not keep:
                transaction.rollback()

    def revision(self) -> int:
        """How many changes there have been. After a restore from a backup it may be less."""
        with self.read() as connection:
            return read_revision(connection)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Where the database is used outside of a transaction."""
        try:
            yield
        except (IntegrityError, DataError) as error:
            raise InvalidEntry("the registry's database does not take these values") from error
        except SQLAlchemyError as error:
            raise self._unavailable(_cause(error)) from error

    def _unavailable(self, why: str) -> RegistryUnavailable:
        return RegistryUnavailable(f"The registry {self.name} cannot be used: {why}")


def read_revision(connection: Connection) -> int:
    """The revision that the transaction sees."""
    return int(connection.execute(select(revision.c.value)).scalar_one())


def next_revision(connection: Connection) -> int:
    """Count the change that begins here. Whoever makes the next one waits until this one ends."""
    counted = connection.execute(
        update(revision).values(value=revision.c.value + 1).returning(revision.c.value)
    ).scalar_one()
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, str(counted))))  # sent with the commit
    return int(counted)


def lock_schema(connection: Connection) -> None:
    """Let nobody else upgrade until the transaction ends. On SQLite every writer is alone."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(CHANNEL))))


def _cause(error: SQLAlchemyError) -> str:
    """One line without statement and values."""
    cause = str(getattr(error, "orig", None) or "").strip() or type(error).__name__
    return cause.splitlines()[0]
