"""Proxies on their way in and out: lists, items, other systems' files, exports.

An import is one transaction: what is wrong with a line is told for that line, and does not stop
the others. No answer quotes a secret.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import EgressError, InvalidEntry
from ..model.family import ProxyFamily
from ..model.host import url_host
from ..model.proxy import Proxy, ProxyType
from ..model.proxy_line import parse_proxy_lines
from ..model.rule import RESERVED, Policy
from ..store.omniroute import Imported, Note, import_omniroute
from ..store.records import RegistryState
from ..store.validation import validate
from .export import Format, export_proxies
from .standing import Standing
from .views import ImportLine, ImportReport, View

if TYPE_CHECKING:
    from ..store.registry import Edit, Registry

Stated = Mapping[str, object] | InvalidEntry | None
"""What a line or an item states: fields of ``Proxy``, nothing readable, or nothing."""

_Identity = tuple[ProxyType, str, int, str, ProxyFamily]
_LONGEST_NAME: Final = 120
_UNNAMED: Final = "unnamed"


class NoteView(View):
    """What it is about (``proxy NAME``, ``assignment SCOPE ID``, ``table NAME``), and why."""

    what: str
    why: str


class OmnirouteReport(View):
    """With ``dry_run`` nothing was kept. ``changed`` is what is not as it was there."""

    dry_run: bool
    created: int
    assigned: int
    changed: tuple[NoteView, ...]
    skipped: tuple[NoteView, ...]


class Transfer:
    """Imports go to the registry and raise what ``Standing.change`` does. With ``dry_run`` they
    are tried and undone."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    async def import_text(
        self, text: str, *, dry_run: bool = False, progress: Callable[[], None] = lambda: None
    ) -> ImportReport:
        """A list as ``model/proxy_line.py`` says, one proxy a line.

        What has type, host, port, username and family of a proxy that is there, here or in the
        policy file, is skipped. One without a name is called ``host:port``, numbered if taken.
        ``progress`` is called for each line, in another thread.
        """
        return await self._import(_told(parse_proxy_lines(text), progress), dry_run)

    async def import_items(self, items: Sequence[object], *, dry_run: bool = False) -> ImportReport:
        """The same from the fields of ``Proxy``; the lines of the report are the items, from 1."""
        return await self._import(enumerate(map(_stated, items), 1), dry_run)

    async def import_omniroute(self, path: Path, *, dry_run: bool = False) -> OmnirouteReport:
        """The proxies of another system's ``storage.sqlite``, under their ids there, and its
        global assignment. Raises ``InvalidEntry`` (field "path") if it is none."""

        def carry(registry: "Registry") -> OmnirouteReport:
            imported = import_omniroute(path)
            state, file = registry.load(self._standing.state), self._standing.file
            with registry.edit(dry_run=dry_run) as edit:
                return _carry(imported, edit, state, Known(state, file), dry_run)

        return await self._standing.change(carry)

    def export(self, form: Format, *, secrets: bool = False) -> str:
        """The proxies of policy file and registry, as ``export_proxies`` says; what cannot be
        used as it lies in the database is left out."""
        file, state = self._standing.file, self._standing.state
        proxies = [
            *(file.proxies if file else ()),
            *(one.proxy for one in (state.proxies if state else ()) if one.proxy),
        ]
        return export_proxies(proxies, form, secrets=secrets)

    async def _import(self, stated: Iterable[tuple[int, Stated]], dry_run: bool) -> ImportReport:
        def take(registry: "Registry") -> tuple[ImportLine, ...]:
            known = Known(registry.load(self._standing.state), self._standing.file)
            with registry.edit(dry_run=dry_run) as edit:
                return tuple(_take(edit, known, number, one) for number, one in stated)

        results = await self._standing.change(take)
        outcomes = [line.outcome for line in results]
        return ImportReport(
            dry_run=dry_run,
            created=outcomes.count("created"),
            skipped=outcomes.count("skipped"),
            failed=outcomes.count("failed"),
            results=results,
        )


def _told[T](items: Iterable[T], progress: Callable[[], None]) -> Iterator[T]:
    for item in items:
        yield item
        progress()


class Known:
    """The proxies that are there, and the names that are taken."""

    def __init__(self, state: RegistryState, file: Policy | None) -> None:
        file = file or Policy()
        here = [*(one.proxy for one in state.proxies if one.proxy), *file.proxies]
        self._by_identity = {_identity(proxy): proxy.name for proxy in here}
        self._names = {
            *(one.name for one in state.proxies),
            *(one.name for one in state.pools),
            *(one.name for one in file.proxies),
            *(one.name for one in file.pools),
        }
        self._next: dict[str, int] = {}

    def name_of(self, proxy: Proxy) -> str | None:
        """What the same proxy is called that is there already."""
        return self._by_identity.get(_identity(proxy))

    def free_name(self, wanted: str) -> str:
        """``wanted``, with a number behind it if that is taken."""
        if self._is_free(wanted) and len(wanted) <= _LONGEST_NAME:
            return wanted
        wanted = wanted[: _LONGEST_NAME - 8]
        for number in count(self._next.get(wanted, 2)):
            if self._is_free(name := f"{wanted} ({number})"):
                self._next[wanted] = number  # of thousands behind one gateway
                break
        return name

    def add(self, proxy: Proxy) -> None:
        self._by_identity[_identity(proxy)] = proxy.name
        self._names.add(proxy.name)

    def _is_free(self, name: str) -> bool:
        return name not in self._names and name.casefold() not in RESERVED


def _identity(proxy: Proxy) -> _Identity:
    return proxy.type, proxy.host, proxy.port, proxy.username, proxy.family


def _stated(item: object) -> Stated:
    return item if isinstance(item, Mapping) else InvalidEntry("an object is expected")


def _take(edit: "Edit", known: Known, number: int, stated: Stated) -> ImportLine:
    if stated is None:
        return ImportLine(line=number, outcome="skipped", message="states no proxy")
    name = ""
    try:
        if isinstance(stated, InvalidEntry):
            raise stated
        proxy = validate(Proxy, {**stated, "name": stated.get("name") or _UNNAMED})
        if there := known.name_of(proxy):
            why = "type, host, port, username and family are those of this proxy"
            return ImportLine(line=number, outcome="skipped", name=there, message=why)
        if not stated.get("name"):
            made_up = known.free_name(f"{url_host(proxy.host)}:{proxy.port}")
            proxy = proxy.model_copy(update={"name": made_up})
        name = proxy.name
        id_ = edit.proxies.create(proxy).id
    except InvalidEntry as error:
        return ImportLine(
            line=number, outcome="failed", name=name, field=error.field, message=_message(error)
        )
    known.add(proxy)
    return ImportLine(line=number, outcome="created", name=name, id=id_)


def _message(error: InvalidEntry) -> str:
    """Without the parameter that a ``?`` in a password makes of its rest."""
    known = error.field != "query"
    return str(error) if known else "Invalid proxy URL: only ?family= can stand in its query"


def _carry(
    imported: Imported, edit: "Edit", state: RegistryState, known: Known, dry_run: bool
) -> OmnirouteReport:
    changed, skipped = [*imported.changed], [*imported.skipped]
    created = assigned = 0
    for entry in imported.entries:
        proxy = entry.proxy.model_copy(update={"name": known.free_name(entry.proxy.name)})
        what = f"proxy {entry.proxy.name}"
        try:
            edit.proxies.create(proxy, entry.id)
        except InvalidEntry as error:
            skipped.append(Note(what, str(error)))
            continue
        known.add(proxy)
        created += 1
        if proxy.name != entry.proxy.name:
            changed.append(Note(what, f"the name is taken; it is now {proxy.name}"))
    taken = {(one.scope, one.scope_id): one.proxy_id for one in state.assignments}
    for one in imported.assignments:
        what = f"assignment {one.scope}"
        if taken.get((one.scope, one.scope_id), one.proxy_id) != one.proxy_id:
            skipped.append(Note(what, "the scope is assigned to another proxy here"))
            continue
        try:
            edit.assignments.put(one.scope, one.scope_id, one.proxy_id)
        except EgressError as error:
            skipped.append(Note(what, str(error)))
        else:
            assigned += 1
    return OmnirouteReport(
        dry_run=dry_run,
        created=created,
        assigned=assigned,
        changed=tuple(_views(changed)),
        skipped=tuple(_views(skipped)),
    )


def _views(notes: Iterable[Note]) -> Iterator[NoteView]:
    return (NoteView(what=note.what, why=note.why) for note in notes)
