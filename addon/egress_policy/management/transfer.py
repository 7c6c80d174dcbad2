"""Proxies on their way in and out: lists, items, the database of OmniRoute, exports.

An import is one transaction. What is wrong with a line is reported for that line and does not stop
the others.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, get_args

from pydantic import ConfigDict

from ..errors import EgressError, InvalidEntry
from ..model.proxy import ProxyType
from ..model.proxy_list import ProxyList, items_of, parse_proxy_list
from ..policy_file.clash import is_clash, parse_clash
from ..registry.records import RegistryState
from .export import Format, export_pieces
from .import_report import ImportReport, LineOutcome
from .intake import Intake, Known
from .upkeep import Upkeep
from .views import View

if TYPE_CHECKING:
    from ..registry.omniroute import Imported
    from ..registry.registry import Edit

PATIENCE: Final = 120.0
"""Seconds for an import: other changes are answered that it is in their way."""


class ImportOptions(TypedDict, total=False):
    """``update`` changes proxies that are there, ``dry_run`` keeps nothing. ``progress`` is called
    for each line, in another thread."""

    update: bool
    dry_run: bool
    progress: Callable[[], None]


class NoteView(View):
    """What it is about (``proxy NAME``, ``assignment SCOPE ID``, ``table NAME``), and why."""

    model_config = ConfigDict(from_attributes=True)

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
    """Imports go to the registry. They raise the errors of ``Upkeep.change``."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep
        self._in_force = upkeep.in_force

    async def import_text(
        self, text: str, *, default_type: ProxyType | None = None, **how: Unpack[ImportOptions]
    ) -> ImportReport:
        """A list in any form that ``read_list`` knows."""
        return await self.import_list(read_list(text, default_type), **how)

    async def import_items(
        self,
        items: Sequence[object],
        *,
        default_type: ProxyType | None = None,
        **how: Unpack[ImportOptions],
    ) -> ImportReport:
        """A list of mappings with the fields of ``Proxy``."""
        listed = ProxyList("item", enumerate(items_of(items, default_type), 1), len(items))
        return await self.import_list(listed, **how)

    async def import_list(self, listed: ProxyList, **how: Unpack[ImportOptions]) -> ImportReport:
        """Add what is not there yet, here or in the policy file.

        A line with a name is about the proxy of that name. If they differ in more than an update
        may change, the line fails. A line without a name is about any proxy with the same way out
        and the same credentials. If the only proxy with its way out has other credentials, and the
        list has no further credentials for that way out, the line is reported and adds nothing.
        Otherwise it adds a proxy called ``host:port``, with a number if that name is taken. What a
        line leaves out, such as its password, stays as it is.
        """
        dry_run = how.get("dry_run", False)
        progress = how.get("progress", lambda: None)

        def take(edit: "Edit") -> ImportReport:
            known = Known(edit.load(self._in_force.state), self._in_force.filed)
            results = []
            with edit.many_proxies() as proxies:
                intake = Intake(
                    proxies, known, (entry for _, entry in entries), update=how.get("update", False)
                )
                for number, entry in entries:
                    results.append(intake.take(number, entry))
                    progress()
            outcomes = Counter(line.outcome for line in results)
            counts = {name: outcomes[name] for name in get_args(LineOutcome)}
            return ImportReport(dry_run=dry_run, unit=listed.unit, results=tuple(results), **counts)

        entries = await asyncio.to_thread(list, listed.entries)
        return await self._upkeep.change(take, PATIENCE, dry_run=dry_run)

    async def import_omniroute(self, path: Path, *, dry_run: bool = False) -> OmnirouteReport:
        """The proxies of OmniRoute's ``storage.sqlite``, under their ids there, and its global
        assignment. Raises ``InvalidEntry`` (field "path") for another file."""
        # Imported here: few ever need it, and without a registry nothing else needs SQLite.
        from ..registry.omniroute import import_omniroute

        imported = await asyncio.to_thread(import_omniroute, path)

        def carry(edit: "Edit") -> OmnirouteReport:
            state = edit.load(self._in_force.state)
            return _carry(imported, edit, state, Known(state, self._in_force.filed), dry_run)

        return await self._upkeep.change(carry, PATIENCE, dry_run=dry_run)

    def export(self, form: Format, *, secrets: bool = False) -> str:
        """The proxies of policy file and registry as ``export_proxies`` writes them, without those
        that cannot be used."""
        return "".join(self.export_pieces(form, secrets=secrets))

    def export_pieces(self, form: Format, *, secrets: bool = False) -> Iterator[str]:
        """The same text, proxy by proxy."""
        stored = (one.proxy for one in self._in_force.stored.proxies if one.proxy)
        return export_pieces([*self._in_force.filed.proxies, *stored], form, secrets=secrets)


def read_list(text: str, default_type: ProxyType | None = None) -> ProxyList:
    """A list of text, CSV or JSON, in the forms of ``model/proxy_list.py``, or the proxies of a
    Clash configuration. Never raises, as ``parse_proxy_list``."""
    return parse_clash(text) if is_clash(text) else parse_proxy_list(text, default_type)


def decode_list(name: str, read: Callable[[], bytes]) -> str:
    """The text that ``read`` gives, with its line ends as they are: a cell of CSV may hold any.
    Raises ``InvalidEntry`` (field "file"), whose message calls it ``name``."""
    try:
        return read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a UTF-8 text"
        raise InvalidEntry(f"{name} cannot be read: {why}", "file") from error


def _carry(
    imported: "Imported", edit: "Edit", state: RegistryState, known: Known, dry_run: bool
) -> OmnirouteReport:
    from ..registry.omniroute import Note

    changed, skipped = [*imported.changed], [*imported.skipped]
    created = assigned = 0
    with edit.many_proxies() as proxies:
        for entry in imported.entries:
            proxy = entry.proxy.model_copy(update={"name": known.free_name(entry.proxy.name)})
            what = f"proxy {entry.proxy.name}"
            try:
                proxies.create(proxy, entry.id)
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
        changed=tuple(map(NoteView.model_validate, changed)),
        skipped=tuple(map(NoteView.model_validate, skipped)),
    )
