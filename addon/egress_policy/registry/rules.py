"""The rules of the registry, and their order.

Positions leave gaps, so that moving a rule rewrites one row, and all of them only when a gap is
used up.
"""

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, override

from sqlalchemy import bindparam, delete, func, insert, select, tuple_, update

from ..errors import Conflict, InvalidEntry
from ..model.proxy import Proxy
from ..model.rule import DIRECT, REFUSE, Rule
from ..sentence import Sentence
from .hop import hop_columns, read_hop, read_json
from .named import find, reference, referred_columns, require_free_name
from .reading import stored_fields
from .records import Row, StoredRule, rule_label
from .schema import pools, proxy_registry, rules, upstream_proxy_config
from .table import Fields, Table
from .validation import require_id, require_text

_INLINE: Final = [column.label(f"inline_{column.name}") for column in upstream_proxy_config.c]
_LAST: Final = select(func.max(rules.c.position))
_EARLIER: Final = (
    select(func.count()).select_from(rules).where(rules.c.position < bindparam("position"))
)
_GAP: Final = 1 << 20
_LONGEST_FILTER: Final = 4000
_LISTS: Final = ("hosts", "clients", "ports")
_NO_USE: Final = {"use": None, "proxy_id": None, "pool_id": None, "upstream_id": None}


class RuleTable(Table[Rule, StoredRule]):
    """``use`` is a name, or the fields of an inline proxy, which is replaced whole, its password
    included. A condition that is ``None`` is removed."""

    noun, plural, model, table = "rule", "rules", Rule, rules
    query = (
        select(rules, *referred_columns("proxy"), *referred_columns("pool"), *_INLINE)
        .outerjoin(proxy_registry, proxy_registry.c.id == rules.c.proxy_id)
        .outerjoin(pools, pools.c.id == rules.c.pool_id)
        .outerjoin(upstream_proxy_config, upstream_proxy_config.c.id == rules.c.upstream_id)
        .order_by(rules.c.position, rules.c.id)
    )
    _end: tuple[int, int] | None = None
    """Position and number of the last rule, while rules are only added behind it."""

    # -- reading

    @override
    def one(self, id_: str) -> StoredRule:
        row = self.row(id_)
        [rule] = self._read([row], [id_])
        return rule.numbered(self._number(row["position"]))

    @override
    def _in_order(self, entries: list[StoredRule]) -> list[StoredRule]:
        return [rule.numbered(number) for number, rule in enumerate(entries, 1)]

    @override
    def _read(self, rows: Iterable[Row], only: Collection[str] | None) -> list[StoredRule]:
        """Numbered as if they were all there are."""
        return [self._numbered(row, number) for number, row in enumerate(rows, 1)]

    def _numbered(self, row: Row, number: int) -> StoredRule:
        fields = _conditions(row)
        if not fields["name"]:
            fields["name"] = rule_label(number)  # so that no rule is made twice
        try:
            rule = self._validate({**fields, **_families(row), "use": self._stored_use(row)})
        except InvalidEntry as error:
            return _stored(row, self._stand_in(fields), number, str(error))
        return _stored(row, rule, number)

    def _stand_in(self, fields: Fields) -> Rule:
        """Refuses what the unusable rule matches, or everything if that cannot be told."""
        for usable in (fields, {key: value for key, value in fields.items() if key != "name"}):
            try:
                return self._validate({**usable, "use": REFUSE})
            except InvalidEntry:
                continue
        return Rule(use=REFUSE)

    def _stored_use(self, row: Row) -> object:
        """The field ``use`` of ``Rule``: a name, or the fields of the inline proxy."""
        if row["upstream_id"] is None:
            return reference(row, "proxy") or reference(row, "pool") or row["use"]
        inline = {column.name: row[f"inline_{column.name}"] for column in upstream_proxy_config.c}
        fields = read_hop(inline, self._transaction.cipher, upstream_proxy_config.name)
        if not fields.get("name"):
            fields.pop("name", None)
        return fields

    # -- writing

    @override
    def create(self, fields: Fields, /, before: str | None = None) -> StoredRule:
        """It goes before the rule with the id ``before``, or to the end."""
        rule = self._validate(fields)
        if before is not None:  # finding its place may renumber the others
            self._check(rule, fields, None)
        position, number = self._append() if before is None else self._put_before(before)
        row = self._add(rule, fields, position=position)
        self._end = (position, number) if before is None else None
        return _stored(row, rule, number)

    def move(self, id_: str, before: str | None, if_match: str | None = None) -> StoredRule:
        """Put it before the rule with the id ``before``, or at the end."""
        self.row(id_, if_match)
        if id_ == before:
            raise InvalidEntry(
                Sentence("before_itself", "a rule cannot go before itself"), "before"
            )
        position, _ = self._append() if before is None else self._put_before(before, id_)
        self._end = None
        columns = {"position": position, **self._transaction.stamp}
        self._connection.execute(update(rules).where(rules.c.id == id_).values(columns))
        return self.one(id_)

    def reorder(self, ids: Sequence[str]) -> None:
        """Put all of them into this order. Raises ``Conflict`` unless each is named once."""
        if sorted(ids) != sorted(self._ordered()):
            raise Conflict(
                Sentence(
                    "not_these_rules",
                    "These are not the rules there are, each once; read them again",
                )
            )
        self._renumber(ids)

    @override
    def _merge(self, row: Row, changes: Fields) -> Fields:
        fields = {**_conditions(row), **_families(row), **changes}
        if "use" not in changes:
            fields["use"] = self._stored_use(row)
        removed = {key for key in (*_LISTS, "filter") if fields.get(key, "") is None}
        return {key: value for key, value in fields.items() if key not in removed}

    @override
    def _check(self, value: Rule, fields: Fields, row: Row | None) -> bool:
        """Whether an inline proxy that was used goes."""
        super()._check(value, fields, row)
        return "use" in fields

    @override
    def _require_free_name(self, name: str) -> None:
        if name.casefold() == "default":
            raise InvalidEntry(
                Sentence("name_reserved", "{name!r} is a reserved name", name=name), "name"
            )
        super()._require_free_name(name)

    @override
    def _columns(self, id_: str, value: Rule, fields: Fields) -> dict[str, Any]:
        if value.filter:
            self._transaction.require_filter(require_text(value.filter, "filter", _LONGEST_FILTER))
        lists = value.hosts, [str(network) for network in value.clients], value.ports
        texts = (json.dumps(listed) if listed else None for listed in lists)
        return {
            "name": value.name,
            "filter": value.filter,
            "family": value.family,
            "target_family": value.target_family,
            **dict(zip(_LISTS, texts, strict=True)),
            **(self._use(value, fields["use"]) if "use" in fields else {}),
        }

    def _use(self, rule: Rule, given: object) -> dict[str, Any]:
        """The columns that say what the rule uses; an inline proxy is stored on the way."""
        use, elsewhere = rule.use, self._transaction.elsewhere
        if isinstance(use, Proxy):
            named = not isinstance(given, Mapping) or bool(given.get("name"))
            return {**_NO_USE, "upstream_id": self._add_inline(use, named)}
        if use in (DIRECT, REFUSE):
            return {**_NO_USE, "use": use}
        if found := find(self._transaction, use):
            return {**_NO_USE, f"{found.kind}_id": found.id}
        if use in elsewhere.proxies or use in elsewhere.pools:
            return {**_NO_USE, "use": use}
        if "@" in use or "://" in use:  # it may hold a password
            raise InvalidEntry(Sentence("use_names_nothing", "use names no proxy or pool"), "use")
        raise InvalidEntry(
            Sentence("names_nothing", "{name!r} names no proxy or pool", name=use), "use"
        )

    def _add_inline(self, proxy: Proxy, named: bool) -> str:
        if named:
            require_free_name(self._transaction, proxy.name)
        id_, table = str(uuid.uuid4()), upstream_proxy_config
        row = {"id": id_, **hop_columns(proxy, self._transaction.cipher, table.name, id_)}
        if not named:
            row["name"] = ""
        self._connection.execute(insert(table), [row])
        return id_

    @override
    def _written(self, id_: str, value: Rule, checked: bool, row: Row | None) -> None:
        if row and checked:
            self._remove_inline(row)

    @override
    def _remove(self, row: Row) -> None:
        self._end = None
        super()._remove(row)
        self._remove_inline(row)

    def _remove_inline(self, row: Row) -> None:
        if row["upstream_id"] is not None:
            this = upstream_proxy_config.c.id == row["upstream_id"]
            self._connection.execute(delete(upstream_proxy_config).where(this))

    # -- the order

    def _ordered(self) -> Sequence[str]:
        query = select(rules.c.id).order_by(rules.c.position, rules.c.id)
        return self._connection.execute(query).scalars().all()

    def _number(self, position: int) -> int:
        """The number, from 1, of the rule that has this position."""
        return int(self._connection.execute(_EARLIER, {"position": position}).scalar_one()) + 1

    def _append(self) -> tuple[int, int]:
        """A free position behind all of them, and the number that a new rule has there."""
        if self._end is None:
            last: int = self._connection.execute(_LAST).scalar_one() or 0
            self._end = last, self._number(last + 1) - 1
        position, number = self._end
        return position + _GAP, number + 1

    def _put_before(self, before: str, moving: str = "") -> tuple[int, int]:
        """A free position before another rule, and the number that a new rule has there.
        ``moving`` leaves its own place."""
        free = self._between(before, moving)
        if free is None:
            self._renumber(self._ordered())
            free = self._between(before, moving)
        if free is None:
            raise Conflict(Sentence("no_room", "There is no room in the order of the rules"))
        return free, self._number(free)

    def _between(self, before: str, moving: str) -> int | None:
        query = select(rules.c.position).where(rules.c.id == require_id(before))
        after = self._connection.execute(query).scalar_one_or_none()
        if after is None:
            raise InvalidEntry(Sentence("names_no_rule", "names no rule"), "before")
        earlier = tuple_(rules.c.position, rules.c.id) < tuple_(after, before)
        last = _LAST.where(earlier, rules.c.id != moving)
        previous: int | None = self._connection.execute(last).scalar_one()
        if previous is None:
            return int(after) - _GAP
        return (previous + after) // 2 if after - previous > 1 else None

    def _renumber(self, ids: Sequence[str]) -> None:
        self._end = None
        if ids:
            self._connection.execute(
                update(rules)
                .where(rules.c.id == bindparam("of"))
                .values(position=bindparam("place")),
                [{"of": id_, "place": number * _GAP} for number, id_ in enumerate(ids, 1)],
            )


def _stored(row: Row, rule: Rule, number: int, problem: str = "") -> StoredRule:
    labelled = rule if rule.name else rule.model_copy(update={"name": rule_label(number)})
    return StoredRule(
        **stored_fields(row),
        problem=problem,
        number=number,
        labelled=labelled,
        named=bool(rule.name and row["name"]),
    )


def _conditions(row: Row) -> dict[str, Any]:
    """The fields of ``Rule`` that say how it is called and what it matches."""
    fields = {key: read_json(row[key]) for key in _LISTS if row[key] is not None}
    if row["filter"]:
        fields["filter"] = row["filter"]
    return {**fields, "name": row["name"]}


def _families(row: Row) -> dict[str, Any]:
    """The fields of ``Rule`` that pin what it uses."""
    return {key: row[key] for key in ("family", "target_family") if row[key] is not None}
