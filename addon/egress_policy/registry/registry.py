"""The registry: entries in a database that several processes may share.

Synchronous: call it from a thread, never from a hook. Every change is one transaction and counts
one revision. A change that was answered is durable.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self, cast

from ..model.words import iso_time
from .assignments import AssignmentTable
from .changes import Changes
from .database import Database, next_revision
from .engines import is_missing_file, parse_location
from .journal import Journal
from .kinds import read_state, tables
from .limits import SILENCE
from .pools import PoolTable
from .proxies import ProxyTable
from .proxy_batch import ProxyBatch
from .reading import Reader
from .records import PolicyFileNames, RegistryState
from .rules import RuleTable
from .secrets import Cipher
from .settings import SettingsTable
from .subscriptions import SubscriptionTable
from .transaction import Transaction
from .upgrade import is_made, prepare


class Edit:
    """Changes in one transaction. They raise ``InvalidEntry`` with the field, ``NotFound``,
    ``Conflict`` and ``InUse``. A change that raised did nothing, and others may follow."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.tables: Mapping[str, Reader[Any]] = tables(transaction)
        """By the plurals of their kinds."""
        self.proxies = cast(ProxyTable, self.tables["proxies"])
        self.pools = cast(PoolTable, self.tables["pools"])
        self.rules = cast(RuleTable, self.tables["rules"])
        self.assignments = cast(AssignmentTable, self.tables["assignments"])
        self.subscriptions = cast(SubscriptionTable, self.tables["subscriptions"])
        self.settings = SettingsTable(transaction)

    @contextlib.contextmanager
    def many_proxies(self) -> Iterator[ProxyBatch]:
        """Changes of many proxies, which are written at the end of the block, or not at all if it
        raises. Nothing else reads or writes proxies within the block."""
        batch = ProxyBatch(self._transaction)
        yield batch
        batch.write()

    def load(self, since: RegistryState | None = None) -> RegistryState:
        """All entries as this transaction sees them, as by ``Registry.load``."""
        return read_state(self._transaction, since)


class Registry:
    """An open registry, for several threads. ``open`` makes it.

    Every method raises ``RegistryUnavailable`` while the database cannot be used.

    ``elsewhere`` is what entries may use of the policy file; the reader of the file sets it.
    """

    def __init__(self, database: Database, cipher: Cipher, clock: Callable[[], datetime]) -> None:
        self.elsewhere = PolicyFileNames()
        self.journal = Journal(database)
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._changes = Changes(database)

    @classmethod
    def open(
        cls,
        url_or_path: str,
        key: bytes,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        silence: float = SILENCE,
    ) -> Self:
        """Open the registry. Make it if there is none, upgrade it if it is of an older version.

        ``url_or_path`` is the option ``egress_registry``, ``key`` comes from ``load_key``, and a
        server may be silent for ``silence`` seconds. Raises ``InvalidEntry`` for a text that is no
        location, ``WrongKey`` and ``RegistryUnavailable``.
        """
        database, cipher = Database(parse_location(url_or_path), silence), Cipher(key)
        try:
            prepare(database, cipher)
        except BaseException:
            database.close()
            raise
        return cls(database, cipher, clock)

    @staticmethod
    def exists(url_or_path: str) -> bool:
        """Whether ``open`` would find a registry. Makes nothing. Raises ``InvalidEntry`` for a text
        that is no location, and ``RegistryUnavailable``."""
        url = parse_location(url_or_path)
        if is_missing_file(url):
            return False
        database = Database(url)
        try:
            return is_made(database)
        finally:
            database.close()

    @property
    def name(self) -> str:
        """The location, without user and password."""
        return self._database.name

    def wait_longer(self, silence: float = SILENCE) -> None:
        """From now on let a server be silent for ``silence`` seconds."""
        self._database.limits.silence = silence

    def end_waits(self) -> None:
        """End a ``wait`` in another thread soon, and each later one. Returns at once."""
        self._changes.end()

    def close(self) -> None:
        """Close the database. Ends a ``wait`` in another thread."""
        self._changes.close()
        self._database.close()

    # -- reading

    def load(self, since: RegistryState | None = None) -> RegistryState:
        """All entries, in one consistent read.

        With ``since`` only entries are read that have another etag there, which is fast. An edit
        by hand, which changes no etag, is seen without it.
        """
        with self._database.read() as connection:
            return read_state(Transaction(connection, self._cipher), since)

    def revision(self) -> int:
        """The number of changes so far. Restoring a backup may lower it."""
        return self._database.revision()

    def wait(self, seen: int, timeout: float) -> int:
        """Wait up to ``timeout`` seconds for a revision other than ``seen``, and return it."""
        return self._changes.wait(seen, timeout)

    # -- writing

    @contextlib.contextmanager
    def edit(self, *, dry_run: bool = False) -> Iterator[Edit]:
        """Make changes together or, if the block raises, none of them. ``dry_run`` undoes them.
        Other writers wait."""
        with self._database.write(keep=not dry_run) as connection:
            now = iso_time(self._clock())
            revision = next_revision(connection)
            yield Edit(Transaction(connection, self._cipher, revision, now, self.elsewhere))
