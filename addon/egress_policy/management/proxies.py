"""Upstream proxies: how they are shown, found, sorted and changed."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack, cast, get_args, override

from ..errors import InvalidEntry
from ..model.proxy import Proxy
from ..model.tags import split_tags
from ..policy_file.proxy_fields import complete_proxy, secrets_beside
from ..registry.hop import HOP_FIELDS, read_json
from ..registry.records import StoredProxy
from ..sentence import Sentence
from .kind import Fields, Kind, Row, page
from .states import StateView
from .test_result import TestResult
from .upkeep import Upkeep
from .usage import Uses
from .views import FILE_ID, Entry, Page, Secret, View, as_number, as_text, entry_fields

_LISTED: Final = ("type", "host", "family", "status", "region", "notes")
SORTS: Final = ("name", "type", "host", "family", "status", "used_by", "last_test")
"""What proxies can be sorted by; a ``-`` before it reverses the order."""

Tested = Literal["good", "failed", "none"]
"""How the last test of a proxy ended; ``none``: it was not tested."""


class ProxyView(Entry):
    """An upstream proxy. ``used_by`` counts the pools, rules and assignments that name it.
    ``status`` is the person's word, ``now`` how it fares; ``None`` where no mitmproxy runs.
    ``subscription`` is the name of the one that brought it, empty for none.

    Where there is a ``problem`` the fields are what the database has.
    """

    name: str
    type: str
    host: str
    port: int | None
    username: str = ""
    password: Secret
    family: str
    target_family: str | None = None
    plain_http: str = "forward"
    region: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    status: str = "active"
    health: str = "watch"
    max_connections: int = 0
    exit_family: str | None = None
    exit_in: tuple[str, ...] = ()
    exit_enforce: bool = False
    subscription: str = ""
    used_by: int = 0
    last_test: TestResult | None = None
    now: StateView | None = None


class Wanted(TypedDict, total=False):
    """Values that fields must have; an empty one allows any."""

    type: str
    family: str
    status: str
    source: str
    region: str


class LabelView(View):
    """A tag or a region, and how many proxies have it."""

    label: str
    proxies: int


class LabelsView(View):
    """In the order of the alphabet."""

    tags: tuple[LabelView, ...]
    regions: tuple[LabelView, ...]


@dataclass(frozen=True, slots=True)
class ProxyRow(Row[ProxyView]):
    """``fields`` and ``tags`` are what lists filter and sort by, ``text`` is what they search."""

    entry: Proxy | StoredProxy
    fields: Mapping[str, str]
    tags: frozenset[str]
    text: str
    order: tuple[str, str]


class Proxies(Kind[ProxyView]):
    noun, plural, model, view = "proxy", "proxies", Proxy, ProxyView
    is_named = True

    def __init__(
        self,
        upkeep: Upkeep,
        uses: Uses,
        last_test: Callable[[str], TestResult | None] = lambda _: None,
        fares: Callable[[Proxy], StateView | None] = lambda _: None,
    ) -> None:
        super().__init__(upkeep, uses)
        self._fares = fares
        self._last_test = last_test
        self._by_entry: dict[int, ProxyRow] = {}
        """By ``id()`` of entries, which the rows keep alive."""

    @override
    def list(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        q: str = "",
        tag: str = "",
        test: str = "",
        sort: str = "name",
        **wanted: Unpack[Wanted],
    ) -> Page[ProxyView]:
        """Proxies for which everything holds that is given.

        ``q`` is looked for in name, host, region, notes and tags; ``tag`` has tags that a proxy
        must all have, separated by commas; ``test`` is how the last test ended (``Tested``).
        Raises ``InvalidEntry`` for an unknown ``sort`` or ``test``.
        """
        if test and test not in get_args(Tested):
            raise InvalidEntry(f"test must be one of {', '.join(get_args(Tested))}", "test")
        rows = cast("Sequence[ProxyRow]", self.rows())
        text, tags = q.casefold(), frozenset(split_tags(tag.lower()))
        asked = {name: str(value) for name, value in wanted.items() if value}
        if text or tags or asked:
            rows = [
                row
                for row in rows
                if text in row.text and tags <= row.tags and asked.items() <= row.fields.items()
            ]
        if test:
            rows = [row for row in rows if self._tested(row) == test]
        return page(self._sorted(rows, sort), limit, offset)

    def labels(self) -> LabelsView:
        """The tags and regions that proxies have, so that people can choose among them."""
        rows = cast("Sequence[ProxyRow]", self.rows())
        tags = Counter(tag for row in rows for tag in row.tags)
        regions = Counter(region for row in rows if (region := row.fields["region"]))
        return LabelsView(tags=_counted(tags), regions=_counted(regions))

    @override
    def _rows(self) -> Iterable[ProxyRow]:
        entries: tuple[Proxy | StoredProxy, ...]
        entries = (*self._in_force.filed.proxies, *self._in_force.stored.proxies)
        # An edit changes a few of thousands: the others are the same objects and keep their rows.
        rows = [self._by_entry.get(id(entry)) or self._row(entry) for entry in entries]
        self._by_entry = dict(zip(map(id, entries), rows, strict=True))
        return sorted(rows, key=attrgetter("order"))

    def _row(self, entry: Proxy | StoredProxy) -> ProxyRow:
        found: Mapping[str, Any]
        if isinstance(entry, Proxy):
            id_, source, found = FILE_ID + entry.name, "file", vars(entry)
        else:  # of an entry that cannot be used the columns are listed as they are
            id_, source = entry.id, "registry"
            found = vars(entry.proxy) if entry.proxy else entry.raw
        fields = {name: str(found.get(name) or "") for name in _LISTED}
        tags = _raw_list(found, "tags")
        text = "\n".join((entry.name, fields["host"], fields["region"], fields.pop("notes"), *tags))
        view = functools.partial(self._view, entry)
        fields["source"] = source
        order = entry.name.casefold(), entry.name
        return ProxyRow(
            id_, entry.name, view, entry, fields, frozenset(tags), text.casefold(), order
        )

    def _view(self, entry: Proxy | StoredProxy) -> ProxyView:
        proxy = entry if isinstance(entry, Proxy) else entry.proxy
        said = {
            "used_by": self._uses.count(entry.name),
            "last_test": self._last_test(entry.name),
            "now": self._fares(proxy) if proxy else None,
        }
        if isinstance(entry, Proxy):
            id_ = FILE_ID + entry.name
            return ProxyView(id=id_, source="file", **proxy_fields(entry), **said)
        fields = proxy_fields(entry.proxy) if entry.proxy else _raw_fields(entry.raw)
        return ProxyView(
            **entry_fields(entry), **fields, **said, subscription=self._subscription(entry)
        )

    def _subscription(self, entry: StoredProxy) -> str:
        id_ = entry.subscription_id
        subscriptions = self._in_force.stored.subscriptions if id_ else ()
        return next((one.name for one in subscriptions if one.id == id_), "")

    def _sorted(self, rows: Sequence[ProxyRow], sort: str) -> Sequence[ProxyRow]:
        name, reverse = sort.removeprefix("-"), sort.startswith("-")
        if name not in SORTS:
            raise InvalidEntry(
                Sentence("sort", "sort must be one of {words}", words=list(SORTS)), "sort"
            )
        if name == "name":
            return rows[::-1] if reverse else rows
        keys: dict[str, Callable[[ProxyRow], Any]]
        keys = {"last_test": self._slowness, "used_by": lambda row: self._uses.count(row.name)}
        key = keys.get(name, lambda row: row.fields[name])
        return sorted(rows, key=key, reverse=reverse)

    def _tested(self, row: ProxyRow) -> Tested:
        last = self._last_test(row.name)
        return "none" if last is None else "good" if last.ok else "failed"

    def _slowness(self, row: ProxyRow) -> tuple[int, float]:
        """Good and fast proxies first, then failed ones, then those without a test."""
        last = self._last_test(row.name)
        if last is None:
            return 2, 0.0
        return (0, last.total_ms or 0.0) if last.ok else (1, 0.0)


def _counted(counts: Counter[str]) -> tuple[LabelView, ...]:
    return tuple(LabelView(label=label, proxies=number) for label, number in sorted(counts.items()))


def complete(fields: Fields) -> Fields:
    """The fields of a proxy with the password that ``password_env`` or ``password_file`` names.
    Raises ``InvalidEntry``."""
    return complete_proxy(fields, os.environ, secrets_beside(Path()))


def proxy_fields(proxy: Proxy) -> dict[str, Any]:
    """The fields of a proxy, the password as whether it is set."""
    fields = proxy.model_dump(exclude={"password", "exit_in"})
    exits = tuple(map(str, proxy.exit_in))
    return {
        **fields,
        "exit_in": exits,
        "password": Secret(set=bool(proxy.password.get_secret_value())),
    }


def _raw_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    port = raw["port"] if type(raw.get("port")) is int else None
    texts = {key: as_text(raw.get(key)) for key in HOP_FIELDS}
    exits = {
        "exit_in": _raw_list(raw, "exit_in"),
        "exit_enforce": raw.get("exit_enforce") in (1, True),
    }
    limit = as_number(raw.get("max_connections"))
    return {
        **texts,
        **exits,
        "tags": _raw_list(raw, "tags"),
        "port": port,
        "max_connections": limit,
        "exit_family": raw.get("exit_family") and texts["exit_family"],
        "password": Secret(set=False),
    }


def _raw_list(raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts, which is JSON in a row of the registry."""
    listed = read_json(raw.get(name))
    return tuple(map(str, listed)) if isinstance(listed, list | tuple) else ()
