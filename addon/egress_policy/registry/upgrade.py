"""Makes the tables of a registry, or upgrades them to this version, after a check of the key."""

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text, update

from ..errors import RegistryUnavailable
from .database import Database, lock_entries, lock_schema, require_known
from .engines import open_ahead, use_write_ahead_log
from .limits import SILENCE
from .schema import HEAD, metadata, revision
from .secrets import Cipher


def prepare(database: Database, cipher: Cipher) -> None:
    """Make the tables in an empty database, upgrade those of an older version.

    Raises ``WrongKey`` if it was made with another key, ``RegistryUnavailable`` if it belongs to
    another program or a newer version; then nothing is changed.
    """
    with database.read() as connection:
        version = _version(database, connection)
        if version == HEAD:
            _require_key(connection, cipher)
    if version != HEAD:
        database.limits.silence = SILENCE  # another node may be upgrading, which takes its time
        with database.write() as connection:
            lock_schema(connection)
            _upgrade(database, connection, cipher)
    if not database.is_postgres:
        use_write_ahead_log(database.engine)
        open_ahead(database.engine)


def is_made(database: Database) -> bool:
    """Whether the tables of a registry are there. Raises ``RegistryUnavailable`` if it belongs to
    another program or a newer version."""
    with database.read() as connection:
        return _version(database, connection) is not None


def upgrade(connection: Connection, target: str = "head") -> None:
    """Run the migrations up to ``target`` within the transaction of the connection."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # or it logs every step
    # Imported here: it takes as long as the rest of opening, and most starts upgrade nothing.
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def _upgrade(database: Database, connection: Connection, cipher: Cipher) -> None:
    version = _version(database, connection)
    if version is not None:
        _require_key(connection, cipher)
        lock_entries(connection)
    if version != HEAD:
        upgrade(connection)
    if version is None:
        connection.execute(update(revision).values(key_check=cipher.make_check()))


def _version(database: Database, connection: Connection) -> str | None:
    """The last migration that was run, ``None`` in a database without tables of a registry."""
    tables = set(inspect(connection).get_table_names())
    if not tables & {"alembic_version", *metadata.tables}:
        return None
    version = None
    if tables >= {"alembic_version", "revision"}:
        query = text("SELECT version_num FROM alembic_version")
        version = connection.execute(query).scalar_one_or_none()
    if version is None:
        raise RegistryUnavailable(
            f"{database.name} holds the tables of another program and was not changed. "
            "Name another registry (the proxies of OmniRoute can be imported)"
        )
    require_known(database.name, version)
    return str(version)


def _require_key(connection: Connection, cipher: Cipher) -> None:
    cipher.require(connection.execute(select(revision.c.key_check)).scalar_one_or_none())
