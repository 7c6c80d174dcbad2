"""The registry: what the faces configure, kept in a database that several processes may share.

Synchronous: call it from a thread, never from a hook. Every change is one transaction that counts
one revision; what was answered is there to stay.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from .assignments import Assignments
from .change import Change
from .changes import Changes
from .database import Database, next_revision
from .engines import SILENCE, is_missing_file, parse_location
from .errors import Usage
from .pools import Pools
from .proxies import Proxies
from .reading import Reader
from .records import (
    PolicyFileNames,
    RegistryState,
    StoredAssignment,
    StoredPool,
    StoredProxy,
    StoredRule,
)
from .rules import Rules
from .secrets import Cipher
from .settings import RegistrySettings
from .upgrade import is_made, prepare
from .usage import usage_of
from .validation import require_id


@dataclass(frozen=True, slots=True)
class Edit:
    """Several changes in one transaction."""

    proxies: Proxies
    pools: Pools
    rules: Rules
    assignments: Assignments
    settings: RegistrySettings


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
        """Several changes that are made together or, if the block raises, not at all.

        A change in it that raises ``InvalidEntry``, ``NotFound``, ``Conflict`` or ``InUse`` may
        be caught, and did nothing. With ``dry_run`` nothing stays. Others who write wait.
        """
        with self._database.write(keep=not dry_run) as connection:
            now = self._clock().astimezone(UTC).isoformat(timespec="milliseconds")
            change = Change(
                connection,
                next_revision(connection),
                now.replace("+00:00", "Z"),
                self._cipher,
                self._reader,
                self.elsewhere,
            )
            yield Edit(
                Proxies(change),
                Pools(change),
                Rules(change),
                Assignments(change),
                RegistrySettings(change),
            )

    def create_proxy(self, fields: Mapping[str, object]) -> StoredProxy:
        """``fields`` are those of ``Proxy``; what is left out has its default."""
        with self.edit() as edit:
            return edit.proxies.create(fields)

    def update_proxy(
        self, id_: str, changes: Mapping[str, object], if_match: str | None = None
    ) -> StoredProxy:
        """Only the fields that ``changes`` has are changed; an empty password removes it."""
        with self.edit() as edit:
            return edit.proxies.update(id_, changes, if_match)

    def delete_proxy(self, id_: str, *, force: bool = False, if_match: str | None = None) -> None:
        """Raises ``InUse`` if something names it; with ``force`` that refuses from then on."""
        with self.edit() as edit:
            edit.proxies.delete(id_, force=force, if_match=if_match)

    def create_pool(self, fields: Mapping[str, object]) -> StoredPool:
        """``fields`` are those of ``Pool``; ``members`` are names of proxies."""
        with self.edit() as edit:
            return edit.pools.create(fields)

    def update_pool(
        self, id_: str, changes: Mapping[str, object], if_match: str | None = None
    ) -> StoredPool:
        with self.edit() as edit:
            return edit.pools.update(id_, changes, if_match)

    def delete_pool(self, id_: str, *, force: bool = False, if_match: str | None = None) -> None:
        with self.edit() as edit:
            edit.pools.delete(id_, force=force, if_match=if_match)

    def create_rule(self, fields: Mapping[str, object], before: str | None = None) -> StoredRule:
        """``fields`` are those of ``Rule``; it goes before another, or to the end."""
        with self.edit() as edit:
            return edit.rules.create(fields, before)

    def update_rule(
        self, id_: str, changes: Mapping[str, object], if_match: str | None = None
    ) -> StoredRule:
        """Only the fields that ``changes`` has are changed; a condition is removed by ``None``."""
        with self.edit() as edit:
            return edit.rules.update(id_, changes, if_match)

    def delete_rule(self, id_: str, if_match: str | None = None) -> None:
        with self.edit() as edit:
            edit.rules.delete(id_, if_match)

    def move_rule(
        self, id_: str, before: str | None = None, if_match: str | None = None
    ) -> StoredRule:
        """Put it before another, or at the end."""
        with self.edit() as edit:
            return edit.rules.move(id_, before, if_match)

    def reorder_rules(self, ids: Sequence[str]) -> None:
        """Put all rules into this order. Raises ``Conflict`` unless each is named once."""
        with self.edit() as edit:
            edit.rules.reorder(ids)

    def assign(
        self, scope: str, scope_id: str | None, proxy_id: str | None, if_match: str | None = None
    ) -> StoredAssignment | None:
        """Which proxy a scope leaves by; ``None`` clears it."""
        with self.edit() as edit:
            return edit.assignments.put(scope, scope_id, proxy_id, if_match)

    def change_settings(self, changes: Mapping[str, object]) -> dict[str, str]:
        """Only those in ``changes`` are changed, and ``None`` clears one; returns all."""
        with self.edit() as edit:
            return edit.settings.put(changes)
