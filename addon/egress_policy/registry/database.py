"""Transactions on the database of the registry, the revision they count, and how they fail."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import URL, Connection, column, func, select, table, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from ..errors import InvalidEntry, MaybeMade, RegistryDown, RegistryUnavailable
from ..sentence import Sentence
from .engines import describe_location, make_engine
from .limits import SILENCE, DatabaseLimits
from .schema import HEAD, VERSIONS, revision

CHANNEL: Final = "egress_policy_revision"
"""The PostgreSQL channel that announces each new revision."""

_VERSION: Final = select(table("alembic_version", column("version_num")))
_REVISION: Final = select(revision.c.value, _VERSION.scalar_subquery())


class Database:
    """Raises ``RegistryDown`` when the database fails, ``InvalidEntry`` for values that it
    rejects."""

    def __init__(self, url: URL, silence: float = SILENCE) -> None:
        self.name = describe_location(url)
        self.limits = DatabaseLimits(silence)
        try:
            self.engine = make_engine(url, self.limits)
        except OSError as error:
            raise self._unavailable(error.strerror or type(error).__name__) from error
        self.is_postgres = self.engine.dialect.name == "postgresql"

    def close(self) -> None:
        self.engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees the database as it is at one moment."""
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
        """A transaction that is committed whole or not at all, and never without ``keep``.

        Raises ``MaybeMade`` if the connection is lost before the commit is answered.
        """
        options: dict[str, Any] = {"writes": True}
        if self.is_postgres:
            options |= {"isolation_level": "READ COMMITTED", "postgresql_readonly": False}
        committing = False
        try:
            with (
                self.failing(),
                self.engine.connect().execution_options(**options) as connection,
                connection.begin() as transaction,
            ):
                yield connection
                if not keep:
                    transaction.rollback()
                committing = keep
        except RegistryDown as error:
            if committing and _is_lost(error.__cause__):
                raise MaybeMade(str(error)) from error
            raise

    def revision(self) -> int:
        """How many changes there have been. Restoring a backup may lower it."""
        with self.read() as connection:
            return read_revision(connection)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Turn the errors of SQLAlchemy into those of the registry."""
        try:
            yield
        except (IntegrityError, DataError) as error:
            raise InvalidEntry(
                Sentence("database_rejects", "the database of the registry rejects these values")
            ) from error
        except SQLAlchemyError as error:
            raise self._unavailable(_cause(error)) from error

    def _unavailable(self, why: str) -> RegistryDown:
        return RegistryDown(f"The registry {self.name} cannot be used: {why}")


def read_revision(connection: Connection) -> int:
    """The revision that the transaction sees. Raises ``RegistryUnavailable`` if another version has
    changed the tables since they were opened."""
    value, version = connection.execute(_REVISION).one()
    _require_head(connection, version)
    return int(value)


def next_revision(connection: Connection) -> int:
    """Count the change that begins here. The next change, and a migration, wait until it ends.

    Raises ``RegistryUnavailable`` if another version has changed the tables.
    """
    counted = connection.execute(
        update(revision).values(value=revision.c.value + 1).returning(revision.c.value)
    ).scalar_one()
    require_newest(connection)  # not before: a migration holds the row of the revision
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, str(counted))))  # sent with the commit
    return int(counted)


def require_newest(connection: Connection) -> None:
    """Raises ``RegistryUnavailable`` if another version has changed the tables."""
    _require_head(connection, connection.execute(_VERSION).scalar_one())


def lock_schema(connection: Connection) -> None:
    """Keep others from upgrading until the transaction ends. SQLite has one writer at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(CHANNEL))))


def lock_entries(connection: Connection) -> None:
    """Keep others from changing entries until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(revision.c.value).with_for_update())


def require_known(place: str, version: str) -> None:
    """Raises ``RegistryUnavailable`` for tables of a version that is not one of ``VERSIONS``."""
    if version not in VERSIONS:
        raise RegistryUnavailable(
            f"The registry {place} was made by a newer version ({version}) of "
            "mitmproxy-egress-policy and was not changed. Update this installation"
        )


def _require_head(connection: Connection, version: str) -> None:
    if version == HEAD:
        return
    place = describe_location(connection.engine.url)
    require_known(place, version)
    raise RegistryUnavailable(
        f"The registry {place} was replaced by one of an older version ({version}) and was not "
        "changed. Restart mitmproxy to upgrade it"
    )


def _is_lost(error: BaseException | None) -> bool:
    """Whether the error cost the connection."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _cause(error: SQLAlchemyError) -> str:
    """One line without statement and values."""
    cause = str(getattr(error, "orig", None) or "").strip() or type(error).__name__
    return cause.splitlines()[0]
