"""The registry: what the faces configure, kept in a database that several processes may share.

Synchronous: call it from a thread, never from a hook. Every change is one transaction that counts
one revision; what was answered is there to stay.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from ..errors import Usage
from ..model.words import iso_time
from .assignments import AssignmentTable
from .change import Change
from .changes import Changes
from .database import Database, next_revision
from .engines import SILENCE, is_missing_file, parse_location
from .pools import PoolTable
from .proxies import ProxyTable
from .reading import Reader
from .records import (
    PolicyFileNames,
    RegistryState,
)
from .rules import RuleTable
from .secrets import Cipher
from .settings import SettingsTable
from .upgrade import is_made, prepare
from .usage import usage_of
from .validation import require_id


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes in one transaction. They raise ``InvalidEntry``, ``NotFound``, ``Conflict`` and
    ``InUse``; one that raised did nothing, and the others may go on."""

    change: Change
    proxies: ProxyTable
    pools: PoolTable
    rules: RuleTable
    assignments: AssignmentTable
    settings: SettingsTable

    def load(self, since: RegistryState | None = None) -> RegistryState:
        """All there is now, as ``Registry.load`` says."""
        return self.change.reader.state(self.change.connection, since)


class Registry:
    """Made by ``open``. May be used by several threads.

    All of it raises ``RegistryUnavailable`` while the database cannot be used. Entries are
    validated as the policy file's are: ``InvalidEntry`` names the field. ``if_match`` is an
    entry's ``etag``: ``Conflict`` if it is not that any more. ``NotFound`` is for unknown ids.

    ``elsewhere`` is what the policy file states; whoever reads the file keeps it up to date.
    """

    def __init__(self, database: Database, cipher: Cipher, clock: Callable[[], datetime]) -> None:
        self.elsewhere = PolicyFileNames()
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._reader = Reader(cipher)
        self._changes = Changes(database)

    @classmethod
    def open(
        cls,
        url_or_path: str,
        key: bytes,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        silence: float = SILENCE,
    ) -> Self:
        """Open the registry, make it where there is none, upgrade it if it is of an older version.

        ``url_or_path`` is the option ``egress_registry``, ``key`` what ``load_key`` returns,
        ``silence`` for how many seconds a server may say nothing.
        Raises ``InvalidEntry`` for a text that is no place, ``WrongKey``, ``RegistryUnavailable``.
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
        """Whether ``open`` would find a registry there; makes nothing. Raises as ``open`` does."""
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
        """Where it is, without user and password."""
        return self._database.name

    def wait_longer(self, silence: float = SILENCE) -> None:
        """Let a server say nothing for ``silence`` seconds from now on."""
        self._database.limits.silence = silence

    def end_waits(self) -> None:
        """End a ``wait`` in another thread, and each later one, soon; waits for nothing."""
        self._changes.end()

    def close(self) -> None:
        """Let go of the database; ends a ``wait`` in another thread."""
        self._changes.close()
        self._database.close()

    # -- reading

    def load(self, since: RegistryState | None = None) -> RegistryState:
        """All there is, in one consistent read.

        With ``since`` only what has another etag than there is read, which is fast; an edit by
        hand, which changes no etag, is seen without it.
        """
        with self._database.read() as connection:
            return self._reader.state(connection, since)

    def revision(self) -> int:
        """The number of changes so far. It goes back if a backup is restored."""
        return self._database.revision()

    def wait(self, seen: int, timeout: float) -> int:
        """Wait up to ``timeout`` seconds for a revision other than ``seen``, and return it."""
        return self._changes.wait(seen, timeout)

    def usage(self, id_: str) -> Usage:
        """What names a proxy or a pool."""
        with self._database.read() as connection:
            return usage_of(connection, require_id(id_))

    # -- writing

    @contextlib.contextmanager
    def edit(self, *, dry_run: bool = False) -> Iterator[Edit]:
        """Changes that are made together or, if the block raises, not at all. With ``dry_run``
        nothing stays. Others who write wait."""
        with self._database.write(keep=not dry_run) as connection:
            now = iso_time(self._clock())
            change = Change(
                connection,
                next_revision(connection),
                now,
                self._cipher,
                self._reader,
                self.elsewhere,
            )
            yield Edit(
                change,
                ProxyTable(change),
                PoolTable(change),
                RuleTable(change),
                AssignmentTable(change),
                SettingsTable(change),
            )
