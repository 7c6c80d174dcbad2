"""Makes the proxies of a subscription those of its list, within one edit of the registry.

The list says where its proxies are and how to log in to them; a person says all the rest. So an
entry changes type, host, port, username and password of its proxy, and nothing else: a pin, a
status or a limit that a person gave stays. Proxies that are no longer listed are deleted, unless
something uses them. A list without any proxy changes nothing. No message quotes a secret.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final, Literal, get_args

from ..errors import InUse, InvalidEntry
from ..model.host import url_host
from ..model.list_entry import NotCarried, ProxyEntry
from ..model.proxy import Proxy
from ..model.proxy_list import ListResult
from ..model.subscription import ListSubscription
from ..model.tags import MOST, each_once
from ..registry.records import StoredProxy
from ..registry.validation import validate
from ..sentence import Sentence
from .import_report import listed
from .intake import Known, fault_of_entry
from .views import Spoken, View

if TYPE_CHECKING:
    from ..registry.proxy_batch import ProxyBatch
    from ..registry.registry import Edit

ChangeKind = Literal["created", "updated", "removed", "kept", "unchanged", "skipped", "failed"]
MOST_ENTRIES: Final = 20_000
"""Entries of a list: proxies, and what else takes a line."""
_SHOWN: Final = 1000
_PLACE: Final = ("type", "host", "port", "username", "password")
_IDENTITY: Final = ("type", "host", "port", "username")


class Change(Spoken):
    """What becomes of one proxy or entry. ``kept``: no longer listed, but in use."""

    kind: ChangeKind
    name: str = ""
    message: str = ""


class SyncCounts(View):
    """How many proxies and entries there are of each kind of change."""

    created: int = 0
    updated: int = 0
    removed: int = 0
    kept: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0


class Sync(SyncCounts):
    """Counts of all changes, and the first ``changes`` except those that change nothing."""

    changes: tuple[Change, ...] = ()


class EmptyList(InvalidEntry):
    """A list without a proxy that can be used: it is more likely broken than empty."""


def sync(
    edit: "Edit",
    known: Known,
    own: Iterable[StoredProxy],
    subscription: ListSubscription,
    id_: str,
    entries: Iterable[ListResult],
    ways: Collection[str] = (),
) -> Sync:
    """``own`` are the proxies that the subscription has, ``known`` are all. ``ways`` are names of
    proxies by which lists are fetched: they are in use.

    Raises ``EmptyList`` if the list has no proxy that can be used, and ``InvalidEntry`` if it has
    too many. The caller then keeps nothing.
    """
    with edit.many_proxies() as proxies:
        run = _Run(proxies, known, own, subscription, id_)
        for number, entry in enumerate(entries, 1):
            if number > MOST_ENTRIES:
                raise InvalidEntry(f"the list has more than {MOST_ENTRIES:,} entries", "url")
            if entry is not None:
                run.take(number, entry)
        if not run.found:
            why = f": {run.changes[0].message}" if run.changes else ""
            raise EmptyList(f"the list has no proxy that can be used{why}", "url")
        run.finish(ways)
    counts = Counter(change.kind for change in run.changes)
    shown = [change for change in run.changes if change.kind != "unchanged"][:_SHOWN]
    return Sync(**{kind: counts[kind] for kind in get_args(ChangeKind)}, changes=tuple(shown))


class _Run:
    def __init__(
        self,
        proxies: "ProxyBatch",
        known: Known,
        own: Iterable[StoredProxy],
        subscription: ListSubscription,
        id_: str,
    ) -> None:
        self.changes: list[Change] = []
        self.found = 0
        """Entries that make a proxy, new or not."""
        self._proxies, self._known = proxies, known
        self._subscription, self._id = subscription, id_
        self._left = {one.name: one for one in own}
        self._by_place: dict[tuple[object, ...], list[str]] = {}
        for one in self._left.values():
            if one.proxy:
                self._by_place.setdefault(_identity(one.proxy), []).append(one.name)
        self._seen: set[str] = set()
        self._places: set[tuple[object, ...]] = set()

    def take(self, number: int, entry: ProxyEntry | InvalidEntry) -> None:
        try:
            if isinstance(entry, InvalidEntry):
                raise entry
            self._take(entry)
        except NotCarried as error:
            self._say("skipped", "", _entry(number, error.text))
        except InvalidEntry as error:
            self._say("failed", "", _entry(number, fault_of_entry(error)))

    def finish(self, ways: Collection[str]) -> None:
        """Delete what is no longer listed, unless something uses it."""
        for name, stored in self._left.items():
            if name in ways:
                way = "it is no longer listed, but a list is fetched through it"
                self._say("kept", name, Sentence("unlisted_way", way))
                continue
            try:
                self._proxies.delete(stored.id)
            except InUse as error:
                used = "it is no longer listed, but in use ({count})"
                self._say("kept", name, Sentence("unlisted_used", used, count=error.usage.count))
            else:
                self._say("removed", name, Sentence("unlisted", "it is no longer listed"))

    def _take(self, entry: ProxyEntry) -> None:
        named = str(entry.get("name") or "")
        proxy = validate(Proxy, {**entry, "name": named or "unnamed"})
        place = (*_identity(proxy), proxy.password.get_secret_value())
        if not named and place in self._places:
            where = f"{url_host(proxy.host)}:{proxy.port}"
            said = Sentence("listed_twice", "{place} is listed twice", place=where)
            self._say("skipped", "", said)
            return
        self._places.add(place)
        there = self._own(proxy, named)
        if there is not None:
            self.found += 1
            self._update(there, proxy, entry)
        elif named in self._seen:
            raise InvalidEntry(
                Sentence("listed_earlier", "{name!r} stands earlier in this list", name=named),
                "name",
            )
        elif same := self._known.same_as(proxy):
            self.found += 1
            self._say("skipped", same.proxy.name, Sentence("there_already", "it is there already"))
        else:
            self._create(proxy, named)

    def _own(self, proxy: Proxy, named: str) -> StoredProxy | None:
        """The proxy of this subscription that an entry is about, which no other entry was about."""
        if named in self._left:
            return self._left.pop(named)
        for name in self._by_place.get(_identity(proxy), ()):
            if name in self._left:
                return self._left.pop(name)
        return None

    def _update(self, there: StoredProxy, proxy: Proxy, entry: ProxyEntry) -> None:
        self._seen.add(there.name)
        changed = [
            field
            for field in _PLACE
            if field in entry
            and (there.proxy is None or getattr(there.proxy, field) != getattr(proxy, field))
        ]
        if not changed:
            self._say("unchanged", there.name)
            return
        changes = {field: entry[field] for field in changed}
        updated = self._proxies.update(there.id, changes)
        if updated.proxy:
            self._known.add(updated.proxy, there.id)
        said = Sentence("has_another", "it has another {fields}", fields=listed(changed))
        self._say("updated", there.name, said)

    def _create(self, proxy: Proxy, named: str) -> None:
        wanted = named or f"{url_host(proxy.host)}:{proxy.port}"
        tags = each_once((*self._subscription.tags, *proxy.tags))[:MOST]
        name = self._known.free_name(wanted)
        proxy = proxy.model_copy(update={"name": name, "tags": tags})
        stored = self._proxies.create(proxy, subscription=self._id)
        self.found += 1
        self._known.add(proxy, stored.id)
        self._seen.add(name)
        taken = Sentence("name_of_another", "{name!r} is the name of another", name=named)
        self._say("created", name, taken if named and name != named else "")

    def _say(self, kind: ChangeKind, name: str, message: str = "") -> None:
        self.changes.append(Change(kind=kind, name=name, message=message))


def _entry(number: int, why: str) -> Sentence:
    return Sentence("entry_is", "entry {number}: {why}", number=number, why=why)


def _identity(proxy: Proxy) -> tuple[object, ...]:
    return tuple(getattr(proxy, field) for field in _IDENTITY)
