"""The proxies of OmniRoute as entries for this registry.

Reads ``proxy_registry`` and ``proxy_assignments`` of a ``storage.sqlite`` of any version, and
changes nothing in it. Passwords lie there in clear.
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from ..errors import EgressError, InvalidEntry
from ..model.proxy import DEFAULT_PORTS, Proxy
from ..model.rule import RESERVED
from .hop import stored_family
from .records import Row
from .scopes import GLOBAL_ID
from .validation import require_id, validate

_ENCRYPTED: Final = "enc:"
_NO_COUNTERPART: Final = ("upstream_proxy_config", "proxy_scope_rotation", "proxy_subscriptions")
_LONGEST_NAME: Final = 120


@dataclass(frozen=True, slots=True)
class ImportedProxy:
    """A proxy, under its id in OmniRoute, so that scripts find it again."""

    id: str
    proxy: Proxy


@dataclass(frozen=True, slots=True)
class ImportedAssignment:
    """An assignment of a scope that this registry has."""

    scope: str
    scope_id: str
    proxy_id: str


@dataclass(frozen=True, slots=True)
class Note:
    """``what`` is ``proxy NAME``, ``assignment SCOPE ID`` or ``table NAME``, ``why`` a sentence."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Imported:
    """``entries`` and ``assignments`` go into an empty registry as they are. ``changed`` says what
    differs from OmniRoute, ``skipped`` what has no counterpart here.

    Health figures and the origin of a proxy are left out without a note.
    """

    entries: tuple[ImportedProxy, ...]
    assignments: tuple[ImportedAssignment, ...]
    changed: tuple[Note, ...]
    skipped: tuple[Note, ...]


def import_omniroute(path: Path) -> Imported:
    """Read a ``storage.sqlite``. Raises ``InvalidEntry`` (field "path") for any other file."""
    try:
        with _reading(path) as database:
            proxies = _rows(database, "proxy_registry")
            assignments = _rows(database, "proxy_assignments")
            others = {table: len(_rows(database, table) or ()) for table in _NO_COUNTERPART}
    except (sqlite3.Error, OSError) as error:
        why = f"{path} cannot be read as a storage.sqlite: {error}"
        raise InvalidEntry(why, "path") from error
    if proxies is None:
        raise InvalidEntry(f"{path} has no table proxy_registry", "path")
    changed: list[Note] = []
    skipped: list[Note] = []
    entries = {entry.id: entry for entry in _proxies(proxies, changed, skipped)}
    carried = tuple(_assignments(assignments or [], entries, skipped))
    for table, number in others.items():
        if number:
            skipped.append(Note(f"table {table}", f"its {number} rows have no counterpart here"))
    return Imported(tuple(entries.values()), carried, tuple(changed), tuple(skipped))


def _proxies(
    rows: Sequence[Row], changed: list[Note], skipped: list[Note]
) -> Iterator[ImportedProxy]:
    names: set[str] = set()
    for row in rows:
        what = f"proxy {row.get('name') or row.get('id')}"
        try:
            proxy, id_ = validate(Proxy, _fields(row)), require_id(row.get("id"))
        except EgressError as error:
            skipped.append(Note(what, str(error)))
            continue
        name = _free_name(proxy.name, names)
        names.add(name)
        if name != proxy.name:
            changed.append(Note(what, f"the name is taken or reserved; it is now {name}"))
        if proxy.status == "inactive" and row["status"] != "inactive":
            changed.append(Note(what, f"the status {row['status']!r} is now inactive: it refuses"))
        if row.get("subscription_id"):
            changed.append(Note(what, "its subscription does not update it any more"))
        yield ImportedProxy(id_, proxy.model_copy(update={"name": name}))


def _fields(row: Row) -> dict[str, Any]:
    """The fields of ``Proxy``. Raises ``InvalidEntry`` for what has no counterpart."""
    type_ = str(row.get("type") or "http").strip().lower()
    if type_ not in DEFAULT_PORTS:
        raise InvalidEntry(f"there is no proxy type {type_[:40]!r} here", "type")
    password = row.get("password") or ""
    if str(password).startswith(_ENCRYPTED):
        raise InvalidEntry("its password is encrypted with a key of that system", "password")
    status = str(row.get("status") or "active").strip().lower()
    fields = {key: row.get(key) or "" for key in ("username", "region", "notes")}
    return {
        **fields,
        "name": row.get("name") or "",
        "type": type_,
        "host": str(row.get("host") or "").strip(),
        "port": row.get("port"),
        "family": stored_family(row.get("family")),
        "password": password,
        "status": "active" if status == "active" else "inactive",
    }


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken and name.casefold() not in RESERVED:
        return name
    numbered = (f"{name[: _LONGEST_NAME - 8]} ({number})" for number in count(2))
    return next(one for one in numbered if one not in taken)


def _assignments(
    rows: Sequence[Row], entries: Mapping[str, ImportedProxy], skipped: list[Note]
) -> Iterator[ImportedAssignment]:
    """Only the global scope has a counterpart: the others are about that system's accounts."""
    members = Counter(str(row.get("scope")) for row in rows)
    for row in rows:
        scope, proxy_id = str(row.get("scope")), str(row.get("proxy_id"))
        if scope != "global":
            why = "there is no such scope here; assign the hosts or clients that it stands for"
        elif members[scope] > 1:
            why = f"{members[scope]} proxies share the scope; make a pool and a rule that uses it"
        elif proxy_id not in entries:
            why = "its proxy could not be carried"
        else:
            yield ImportedAssignment(scope, GLOBAL_ID, proxy_id)
            continue
        skipped.append(Note(f"assignment {scope} {row.get('scope_id') or ''}".strip(), why))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
        database.row_factory = sqlite3.Row
        database.execute("BEGIN")  # both tables at one moment
        yield database


def _rows(database: sqlite3.Connection, table: str) -> list[Row] | None:
    """All rows of a table, ``None`` if there is no such table."""
    named = "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?"
    if not database.execute(named, (table,)).fetchone():
        return None
    rows = database.execute(f"SELECT * FROM {table}")  # noqa: S608 - a constant
    return [dict(row) for row in rows]
