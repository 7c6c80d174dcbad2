"""Proxies on their way in and out: lists, items, other systems' files, exports.

An import is one transaction: what is wrong with a line is told for that line, and does not stop
the others. No answer quotes a secret.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import EgressError, InvalidEntry
from ..model.host import url_host
from ..model.list_entry import ProxyEntry
from ..model.proxy import Proxy, ProxyType
from ..model.proxy_list import ProxyList, Stated, items_of, parse_proxy_list
from ..model.rule import RESERVED, Policy
from ..registry.omniroute import Imported, Note, import_omniroute
from ..registry.records import RegistryState
from ..registry.validation import validate
from .export import Format, export_pieces
from .import_report import ImportLine, ImportReport
from .upkeep import Upkeep
from .views import View

if TYPE_CHECKING:
    from ..registry.registry import Edit

_LONGEST_NAME: Final = 120
_UNNAMED: Final = "unnamed"
_WAY_OUT: Final = ("type", "host", "port", "family", "target_family", "plain_http", "status")
_CREDENTIALS: Final = ("username", "password")
_REPLACEABLE: Final = (*_CREDENTIALS, "region", "notes")
"""What an update may take: it does not change which way out a name stands for."""
_PATIENCE: Final = 120.0
"""Seconds for an import: other changes are answered that it is in their way."""
_LEFT_OUT: Final = "its password is not in this file"


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
    """Imports go to the registry and raise what ``Upkeep.change`` does. With ``dry_run``
    they are tried and undone."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep
        self._in_force = upkeep.in_force

    async def import_text(
        self,
        text: str,
        *,
        default_type: ProxyType | None = None,
        update: bool = False,
        dry_run: bool = False,
    ) -> ImportReport:
        """A list as ``model/proxy_list.py`` says: lines of text, CSV or JSON."""
        listed = parse_proxy_list(text, default_type)
        return await self.import_list(listed, update=update, dry_run=dry_run)

    async def import_items(
        self,
        items: Sequence[object],
        *,
        default_type: ProxyType | None = None,
        update: bool = False,
        dry_run: bool = False,
    ) -> ImportReport:
        """The same from the fields of ``Proxy``."""
        listed = ProxyList("item", enumerate(items_of(items, default_type), 1), len(items))
        return await self.import_list(listed, update=update, dry_run=dry_run)

    async def import_list(
        self,
        listed: ProxyList,
        *,
        update: bool = False,
        dry_run: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> ImportReport:
        """Add what is not there yet, here or in the policy file.

        A proxy with a name is the one of that name. If they differ in more than ``update`` may
        take, the line fails; nothing is dropped for being much like another. One without a name
        is any that has the same way out and the same credentials. If the only one with its way out
        has other credentials, and they alone stand in the list for that way out, it is told and
        not added: they may have changed. Or else it is added and called ``host:port``, numbered if
        that is taken. What a line does not name, such as a password that was left out, stays as it
        is. ``progress`` is called for each line, in another thread.
        """

        def take(edit: "Edit") -> tuple[ImportLine, ...]:
            known = Known(edit.load(self._in_force.state), self._in_force.file)
            entries = list(listed.entries)
            intake = _Intake(edit, known, _gateways(one for _, one in entries), update)
            return tuple(intake.take(*one) for one in _told(entries, progress))

        results = await self._upkeep.change(take, _PATIENCE, dry_run=dry_run)
        outcomes = Counter(line.outcome for line in results)
        return ImportReport(
            dry_run=dry_run,
            unit=listed.unit,
            created=outcomes["created"],
            updated=outcomes["updated"],
            differs=outcomes["differs"],
            skipped=outcomes["skipped"],
            failed=outcomes["failed"],
            results=results,
        )

    async def import_omniroute(self, path: Path, *, dry_run: bool = False) -> OmnirouteReport:
        """The proxies of another system's ``storage.sqlite``, under their ids there, and its
        global assignment. Raises ``InvalidEntry`` (field "path") if it is none."""

        imported = await asyncio.to_thread(import_omniroute, path)

        def carry(edit: "Edit") -> OmnirouteReport:
            state = edit.load(self._in_force.state)
            return _carry(imported, edit, state, Known(state, self._in_force.file), dry_run)

        return await self._upkeep.change(carry, _PATIENCE, dry_run=dry_run)

    def export(self, form: Format, *, secrets: bool = False) -> str:
        """The proxies of policy file and registry, as ``export_proxies`` says; what cannot be
        used as it lies in the database is left out."""
        return "".join(self.export_pieces(form, secrets=secrets))

    def export_pieces(self, form: Format, *, secrets: bool = False) -> Iterator[str]:
        """The same proxy by proxy."""
        stored = (one.proxy for one in self._in_force.stored.proxies if one.proxy)
        proxies = [*self._in_force.filed.proxies, *stored]
        return export_pieces(proxies, form, secrets=secrets)


def _told[T](items: Iterable[T], progress: Callable[[], None]) -> Iterator[T]:
    for item in items:
        yield item
        progress()


def _gateways(entries: Iterable[Stated]) -> frozenset[tuple[object, ...]]:
    """The ways out that stand in a list with several credentials: their sessions or users."""
    accounts: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
    for one in entries:
        if isinstance(one, ProxyEntry):
            account = tuple(one.get(field) for field in _CREDENTIALS)
            accounts.setdefault(_way_out(one), set()).add(account)
    return frozenset(way_out for way_out, found in accounts.items() if len(found) > 1)


def _way_out(entry: ProxyEntry) -> tuple[object, ...]:
    """As it is written: two spellings of one way out are two here."""
    return tuple(entry.get(field) for field in _WAY_OUT)


class _There(NamedTuple):
    """A proxy that is there. ``id`` is empty for one of the policy file, ``is_listed`` says that a
    line of this import was about it."""

    proxy: Proxy
    id: str
    is_listed: bool = False


class Known:
    """The proxies that are there, and the names that are taken."""

    def __init__(self, state: RegistryState, file: Policy | None) -> None:
        file = file or Policy()
        self._by_name: dict[str, _There] = {}
        self._same: dict[tuple[object, ...], str] = {}
        self._by_way_out: dict[tuple[object, ...], list[str]] = {}
        self._names = {
            *(one.name for one in state.proxies),
            *(one.name for one in state.pools),
            *(one.name for one in file.pools),
        }
        self._next: dict[str, int] = {}
        for one in state.proxies:
            if one.proxy:
                self._add(_There(one.proxy, one.id))
        for proxy in file.proxies:
            self._add(_There(proxy, ""))
        for name, there in self._by_name.items():
            self._by_way_out.setdefault(_identity(there.proxy, _WAY_OUT), []).append(name)

    def named(self, name: str) -> _There | None:
        return self._by_name.get(name)

    def same_as(self, proxy: Proxy) -> _There | None:
        """One that is the same egress in all but its name."""
        return self._by_name.get(self._same.get(_identity(proxy), ""))

    def alone_like(self, proxy: Proxy) -> _There | None:
        """The only one with its way out that was there before the import."""
        names = self._by_way_out.get(_identity(proxy, _WAY_OUT), ())
        return self._by_name[names[0]] if len(names) == 1 else None

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

    def add(self, proxy: Proxy, id_: str) -> None:
        """Take note of what this import made, changed, or found as it is."""
        before = self._by_name.get(proxy.name)
        if before and self._same.get(_identity(before.proxy)) == proxy.name:
            del self._same[_identity(before.proxy)]
        self._add(_There(proxy, id_, is_listed=True))

    def _add(self, there: _There) -> None:
        self._by_name[there.proxy.name] = there
        self._same[_identity(there.proxy)] = there.proxy.name
        self._names.add(there.proxy.name)

    def _is_free(self, name: str) -> bool:
        return name not in self._names and name.casefold() not in RESERVED


def _identity(
    proxy: Proxy, fields: Sequence[str] = (*_WAY_OUT, *_CREDENTIALS)
) -> tuple[object, ...]:
    """What makes it another egress, its name excepted."""
    return tuple(getattr(proxy, field) for field in fields)


class _Intake:
    """Takes one line after the other into an edit of the registry."""

    def __init__(
        self, edit: "Edit", known: Known, gateways: frozenset[tuple[object, ...]], update: bool
    ) -> None:
        self._edit = edit
        self._known = known
        self._gateways = gateways
        self._update = update

    def take(self, number: int, stated: Stated) -> ImportLine:
        if stated is None:
            return ImportLine(line=number, outcome="skipped")
        shown = ImportLine(line=number, outcome="failed")
        try:
            if isinstance(stated, InvalidEntry):
                raise stated
            proxy = self._proxy(stated)
            name = proxy.name if stated.get("name") else ""
            type_is = {"type": proxy.type, "assumes_type": stated.assumes_type}
            shown = shown.model_copy(update={"name": name, **type_is})
            if there := self._known.named(name) if name else self._known.same_as(proxy):
                done = self._compare(there, proxy, stated)
            elif not name and (near := self._near(proxy, stated)):
                done = self._differs(near, proxy, stated)
            else:
                done = self._create(proxy, stated)
        except InvalidEntry as error:
            done = {"field": error.field, "message": _message(error)}
        return shown.model_copy(update=done)

    def _proxy(self, stated: ProxyEntry) -> Proxy:
        """With the password that is kept here, if the file lacks it."""
        name = stated.get("name") or ""
        fields = {**stated, "name": name or _UNNAMED}
        there = self._known.named(str(name).strip())
        if stated.lacks_password and there:
            fields["password"] = there.proxy.password.get_secret_value()
        return validate(Proxy, fields)

    def _near(self, proxy: Proxy, stated: ProxyEntry) -> _There | None:
        """The proxy whose other credentials those of a line without a name may be."""
        return None if _way_out(stated) in self._gateways else self._known.alone_like(proxy)

    def _differs(self, there: _There, proxy: Proxy, stated: ProxyEntry) -> dict[str, str]:
        """What is told of a line without a name, whose proxy may be ``there``."""
        differing = [field for field in _CREDENTIALS if _differ(field, proxy, there.proxy)]
        if stated.lacks_password and differing == ["password"]:
            return self._compare(there, proxy, stated)
        name = there.proxy.name
        message = (
            f"differs from proxy {name!r} only in its {_listed(differing)}: give the line that "
            "name to update the proxy, or another name to add one"
        )
        outcome = {"outcome": "differs", "field": differing[0], "message": message}
        return {**outcome, "name": name, "id": there.id}

    def _create(self, proxy: Proxy, stated: ProxyEntry) -> dict[str, str]:
        if not stated.get("name"):
            made_up = self._known.free_name(f"{url_host(proxy.host)}:{proxy.port}")
            proxy = proxy.model_copy(update={"name": made_up})
        id_ = self._edit.proxies.create(proxy).id
        self._known.add(proxy, id_)
        message = f"{_LEFT_OUT}: it has none now" if stated.lacks_password else ""
        return {"outcome": "created", "name": proxy.name, "id": id_, "message": message}

    def _compare(self, there: _There, proxy: Proxy, stated: ProxyEntry) -> dict[str, str]:
        """What becomes of a line whose proxy is there already."""
        name = there.proxy.name
        differing = [one for one in (*_WAY_OUT, *_REPLACEABLE) if _differ(one, proxy, there.proxy)]
        fixed = [field for field in differing if field in _WAY_OUT]
        if fixed:
            why = f"there is another proxy {name!r}, which differs in {_listed(fixed)}"
            raise InvalidEntry(f"{why}: give this one another name", "name")
        changed = [field for field in differing if field in stated]
        kept = [field for field in differing if field in _CREDENTIALS and field not in stated]
        if there.is_listed and (changed or (kept and not stated.lacks_password)):
            why = f"{name!r} stands in this list before, with another {_listed(changed + kept)}"
            raise InvalidEntry(f"{why}: give this one another name", "name")
        if changed and not there.id:
            why = f"differs from proxy {name!r} of the policy file in {_listed(changed)}"
            raise InvalidEntry(f"{why}: change it there", changed[0])
        self._known.add(there.proxy, there.id)
        found = {"name": name, "id": there.id}
        if changed and not self._update:
            only = f"differs from proxy {name!r} only in its {_listed(changed)}: an update takes it"
            return {**found, "outcome": "differs", "field": changed[0], "message": only}
        said = [f"it has another {_listed(changed)}"] if changed else ["it is there already"]
        if stated.lacks_password:
            here = "stays as it is" if there.proxy.password else "is not set here"
            said.append(f"{_LEFT_OUT} and {here}")
        elif kept:
            said.append(f"it keeps its {_listed(kept)}")
        if changed:
            changes = {field: stated[field] for field in changed}
            updated = self._edit.proxies.update(there.id, changes)
            if updated.proxy:
                self._known.add(updated.proxy, there.id)
        outcome = "updated" if changed else "skipped"
        return {**found, "outcome": outcome, "message": "; ".join(said)}


def _differ(field: str, one: Proxy, other: Proxy) -> bool:
    return bool(getattr(one, field) != getattr(other, field))


def _listed(fields: Sequence[str]) -> str:
    *others, last = fields
    return f"{', '.join(others)} and {last}" if others else last


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
        known.add(proxy, entry.id)
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
