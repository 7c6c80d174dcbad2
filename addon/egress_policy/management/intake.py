"""The outcome of each line of an imported list, within one edit of the registry.

A line that names a proxy is about the proxy of that name. A line without a name is about any proxy
with the same way out and the same credentials; if only the credentials differ, they may have
changed, and people are asked instead of adding a second proxy. No message quotes a secret.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import InvalidEntry
from ..model.host import url_host
from ..model.list_entry import NotCarried, ProxyEntry
from ..model.proxy import Proxy
from ..model.proxy_list import ListResult
from ..model.rule import RESERVED, Policy
from ..registry.records import RegistryState
from ..registry.validation import validate
from ..sentence import Sentence
from .import_report import ImportLine, listed

if TYPE_CHECKING:
    from ..registry.proxy_batch import ProxyBatch

type Key = tuple[object, ...]

_LONGEST_NAME: Final = 120
_UNNAMED: Final = "unnamed"
_WAY_OUT: Final = ("type", "host", "port", "family", "target_family", "plain_http", "status")
_CREDENTIALS: Final = ("username", "password")
_EXPECTED: Final = ("health", "max_connections", "exit_family", "exit_in", "exit_enforce")
_REPLACEABLE: Final = (*_CREDENTIALS, "region", "notes", "tags", *_EXPECTED)
"""What an update may change: a name keeps the way out that it stands for."""


class _There(NamedTuple):
    """A proxy that is there. ``id`` is empty for a proxy of the policy file, ``is_listed`` says
    that a line of this import was about it."""

    proxy: Proxy
    id: str
    is_listed: bool = False


class Known:
    """The proxies that are there, and the names that are taken."""

    def __init__(self, state: RegistryState, file: Policy) -> None:
        self._by_name: dict[str, _There] = {}
        self._same: dict[Key, str] = {}
        self._by_way_out: dict[Key, list[str]] = {}
        self._names = {
            *(one.name for one in state.proxies),
            *(one.name for one in state.pools),
            *(one.name for one in file.pools),
        }
        self._next: dict[str, int] = {}
        for stored in state.proxies:
            if stored.proxy:
                self._add(_There(stored.proxy, stored.id))
        for proxy in file.proxies:
            self._add(_There(proxy, ""))
        for name, there in self._by_name.items():
            self._by_way_out.setdefault(_key(there.proxy, _WAY_OUT), []).append(name)

    def named(self, name: str) -> _There | None:
        return self._by_name.get(name)

    def same_as(self, proxy: Proxy) -> _There | None:
        """A proxy that is the same egress in all but its name."""
        return self._by_name.get(self._same.get(_key(proxy), ""))

    def alone_like(self, proxy: Proxy) -> _There | None:
        """The only proxy with this way out before the import."""
        names = self._by_way_out.get(_key(proxy, _WAY_OUT), ())
        return self._by_name[names[0]] if len(names) == 1 else None

    def free_name(self, wanted: str) -> str:
        """``wanted``, with a number behind it if that is taken."""
        if self._is_free(wanted) and len(wanted) <= _LONGEST_NAME:
            return wanted
        wanted = wanted[: _LONGEST_NAME - 8]
        for number in count(self._next.get(wanted, 2)):
            if self._is_free(name := f"{wanted} ({number})"):
                self._next[wanted] = number  # thousands may share one gateway
                break
        return name

    def add(self, proxy: Proxy, id_: str) -> None:
        """Remember what this import made, changed or found unchanged."""
        before = self._by_name.get(proxy.name)
        if before and self._same.get(_key(before.proxy)) == proxy.name:
            del self._same[_key(before.proxy)]
        self._add(_There(proxy, id_, is_listed=True))

    def _add(self, there: _There) -> None:
        self._by_name[there.proxy.name] = there
        self._same[_key(there.proxy)] = there.proxy.name
        self._names.add(there.proxy.name)

    def _is_free(self, name: str) -> bool:
        return name not in self._names and name.casefold() not in RESERVED


class Intake:
    """Takes one line after the other. ``entries`` are all lines of the list."""

    def __init__(
        self, proxies: "ProxyBatch", known: Known, entries: Iterable[ListResult], *, update: bool
    ) -> None:
        self._proxies = proxies
        self._known = known
        self._gateways = _gateways(entries)
        self._update = update

    def take(self, number: int, entry: ListResult) -> ImportLine:
        if entry is None:
            return ImportLine(line=number, outcome="skipped")
        line: dict[str, Any] = {"line": number, "outcome": "failed"}
        try:
            if isinstance(entry, InvalidEntry):
                raise entry
            proxy = self._proxy(entry)
            name = proxy.name if entry.get("name") else ""
            line |= {"name": name, "type": proxy.type, "assumes_type": entry.assumes_type}
            if there := self._known.named(name) if name else self._known.same_as(proxy):
                done = self._compare(there, proxy, entry)
            elif not name and (near := self._near(proxy, entry)):
                done = self._differs(near, proxy, entry)
            else:
                done = self._create(proxy, entry)
            if entry.remark:
                done = {
                    **done,
                    "message": "; ".join(filter(None, (done.get("message"), entry.remark))),
                }
        except NotCarried as error:
            done = {"outcome": "skipped", "field": error.field, "message": str(error)}
        except InvalidEntry as error:
            done = {"field": error.field, "message": fault_of_entry(error)}
        return ImportLine(**{**line, **done})

    def _proxy(self, entry: ProxyEntry) -> Proxy:
        """With the password that is kept here, if the file lacks it."""
        name = entry.get("name") or ""
        fields = {**entry, "name": name or _UNNAMED}
        there = self._known.named(str(name).strip())
        if entry.lacks_password and there:
            fields["password"] = there.proxy.password.get_secret_value()
        return validate(Proxy, fields)

    def _near(self, proxy: Proxy, entry: ProxyEntry) -> _There | None:
        """The proxy to which a line without a name may give other credentials."""
        return None if _way_out(entry) in self._gateways else self._known.alone_like(proxy)

    def _differs(self, there: _There, proxy: Proxy, entry: ProxyEntry) -> dict[str, str]:
        """The outcome for a line without a name that may be about ``there``."""
        differing = _differing(_CREDENTIALS, proxy, there.proxy)
        if entry.lacks_password and differing == ["password"]:
            return self._compare(there, proxy, entry)
        name = there.proxy.name
        message = Sentence(
            "line_differs",
            "differs from proxy {name!r} only in its {fields}: give the line that name to update "
            "the proxy, or another name to add one",
            name=name,
            fields=listed(differing),
        )
        outcome = {"outcome": "differs", "field": differing[0], "message": message}
        return {**outcome, "name": name, "id": there.id}

    def _create(self, proxy: Proxy, entry: ProxyEntry) -> dict[str, str]:
        if not entry.get("name"):
            made_up = self._known.free_name(f"{url_host(proxy.host)}:{proxy.port}")
            proxy = proxy.model_copy(update={"name": made_up})
        id_ = self._proxies.create(proxy).id
        self._known.add(proxy, id_)
        none = Sentence("password_none_now", "its password is not in this file: it has none now")
        message = none if entry.lacks_password else ""
        return {"outcome": "created", "name": proxy.name, "id": id_, "message": message}

    def _compare(self, there: _There, proxy: Proxy, entry: ProxyEntry) -> dict[str, str]:
        """The outcome for a line whose proxy is there."""
        name = there.proxy.name
        differing = _differing((*_WAY_OUT, *_REPLACEABLE), proxy, there.proxy)
        if fixed := [field for field in differing if field in _WAY_OUT]:
            why = "there is another proxy {name!r}, which differs in {fields}"
            raise _other_name("another_proxy", why, name=name, fields=listed(fixed))
        changed = [field for field in differing if field in entry]
        kept = [field for field in differing if field in _CREDENTIALS and field not in entry]
        if there.is_listed and (changed or (kept and not entry.lacks_password)):
            why = "{name!r} stands earlier in this list with another {fields}"
            raise _other_name("earlier_line", why, name=name, fields=listed(changed + kept))
        if changed and not there.id:
            why = "differs from proxy {name!r} of the policy file in {fields}: change it there"
            said = Sentence("differs_from_file", why, name=name, fields=listed(changed))
            raise InvalidEntry(said, changed[0])
        self._known.add(there.proxy, there.id)
        found = {"name": name, "id": there.id}
        if changed and not self._update:
            only = "differs from proxy {name!r} only in its {fields}: an update takes it"
            said = Sentence("update_takes_it", only, name=name, fields=listed(changed))
            return {**found, "outcome": "differs", "field": changed[0], "message": said}
        message = (
            Sentence("has_another", "it has another {fields}", fields=listed(changed))
            if changed
            else Sentence("there_already", "it is there already")
        )
        if more := _about_password(there, entry, kept):
            message = Sentence("and_also", "{one}; {other}", one=message, other=more)
        if changed:
            changes = {field: entry[field] for field in changed}
            updated = self._proxies.update(there.id, changes)
            if updated.proxy:
                self._known.add(updated.proxy, there.id)
        outcome = "updated" if changed else "skipped"
        return {**found, "outcome": outcome, "message": message}


def _gateways(entries: Iterable[ListResult]) -> frozenset[Key]:
    """The ways out that a list names with several credentials: they are sessions or users."""
    accounts: dict[Key, set[Key]] = {}
    for entry in entries:
        if isinstance(entry, ProxyEntry):
            account = tuple(entry.get(field) for field in _CREDENTIALS)
            accounts.setdefault(_way_out(entry), set()).add(account)
    return frozenset(way_out for way_out, found in accounts.items() if len(found) > 1)


def _way_out(entry: ProxyEntry) -> Key:
    """As it is written: two spellings of one way out are two here."""
    return tuple(entry.get(field) for field in _WAY_OUT)


def _key(proxy: Proxy, fields: Sequence[str] = (*_WAY_OUT, *_CREDENTIALS)) -> Key:
    """What makes a proxy another egress; its name does not."""
    return tuple(getattr(proxy, field) for field in fields)


def _differing(fields: Sequence[str], one: Proxy, other: Proxy) -> list[str]:
    return [field for field in fields if getattr(one, field) != getattr(other, field)]


def _about_password(there: _There, entry: ProxyEntry, kept: Sequence[str]) -> Sentence | None:
    """What becomes of a password that the line does not have."""
    if entry.lacks_password and there.proxy.password:
        stays = "its password is not in this file and stays as it is"
        return Sentence("password_stays", stays)
    if entry.lacks_password:
        unset = "its password is not in this file and is not set here"
        return Sentence("password_unset", unset)
    return Sentence("keeps", "it keeps its {fields}", fields=listed(kept)) if kept else None


def _other_name(code: str, template: str, **params: str) -> InvalidEntry:
    why = Sentence(code, template, **params)
    return InvalidEntry(
        Sentence("other_name", "{why}: give this one another name", why=why), "name"
    )


def fault_of_entry(error: InvalidEntry) -> str:
    """What is wrong with an entry, without the parameter that a ``?`` in a password makes of its
    rest."""
    known = error.field != "query"
    only = Sentence("url_query", "Invalid proxy URL: only ?family= can stand in its query")
    return error.text if known else only
