"""Writes to the rules of the registry, and to their order.

Positions leave gaps, so that moving a rule rewrites one row, and all of them only when a gap is
used up.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, insert, select, tuple_, update

from ..errors import Conflict, InvalidEntry
from ..model.proxy import Proxy
from ..model.rule import DIRECT, REFUSE, Rule
from .change import Change
from .entries import common, conditions, password_owner, stored_families, stored_use
from .proxies import hop_columns
from .reading import rule_number
from .records import Row, StoredRule, rule_label
from .schema import rules, upstream_proxy_config
from .validation import require_id, require_match, require_text, validate

_INSERT: Final = insert(rules)
_NAMED: Final = select(rules.c.id).where(rules.c.name == bindparam("name"))
_LAST: Final = select(func.max(rules.c.position))
_GAP: Final = 1 << 20
_LONGEST_FILTER: Final = 4000
_CONDITIONS: Final = ("hosts", "clients", "ports", "filter")
_NO_USE: Final = {"use": None, "proxy_id": None, "pool_id": None, "upstream_id": None}


class RuleTable:
    """Raises as ``ProxyTable`` does."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._connection = change.connection
        self._end: tuple[int, int] | None = None
        """Position and number of the last rule, while rules are only added behind it."""

    def create(self, fields: Mapping[str, object], before: str | None = None) -> StoredRule:
        """``fields`` are those of ``Rule``; ``use`` is a name, or the fields of an inline proxy.
        It goes before the rule with the id ``before``, or to the end."""
        rule = validate(Rule, fields)
        self._require_free_name(rule.name)
        position, number = self._append() if before is None else self._insert(before)
        columns = {**self._conditions(rule), **self._use(rule, fields["use"])}
        row = {**self._change.birth(), **columns, "position": position}
        self._connection.execute(_INSERT, [row])
        self._end = (position, number) if before is None else None
        labelled = rule if rule.name else rule.model_copy(update={"name": rule_label(number)})
        named = bool(rule.name)
        return StoredRule(**common(row), problem="", number=number, labelled=labelled, named=named)

    def update(
        self, id_: str, changes: Mapping[str, object], if_match: str | None = None
    ) -> StoredRule:
        """Only the fields that ``changes`` has are changed. A condition that is ``None`` is
        removed; an inline proxy is replaced whole, its password included."""
        row = self._require(id_, if_match)
        stored = {**conditions(row), **stored_families(row)}
        if "use" not in changes:
            inline = self._change.reader.inline_proxy(self._connection, row)
            stored["use"] = stored_use(row, inline, self._change.cipher)
        merged = {**stored, **changes}
        for condition in _CONDITIONS:
            if merged.get(condition, "") is None:
                del merged[condition]
        rule = validate(Rule, merged)
        if rule.name != row["name"]:
            self._require_free_name(rule.name)
        columns = {**self._conditions(rule), **self._change.stamp}
        if "use" in changes:
            columns |= self._use(rule, changes["use"])
        self._connection.execute(update(rules).where(rules.c.id == id_).values(columns))
        if "use" in changes:
            self._remove_inline(row["upstream_id"])
        return self._change.reader.rule(self._connection, id_)

    def delete(self, id_: str, *, force: bool = False, if_match: str | None = None) -> None:  # noqa: ARG002
        """Nothing names a rule, so it goes with or without ``force``."""
        row = self._require(id_, if_match)
        self._end = None
        self._connection.execute(delete(rules).where(rules.c.id == id_))
        self._remove_inline(row["upstream_id"])

    def move(self, id_: str, before: str | None, if_match: str | None = None) -> StoredRule:
        """Put it before the rule with the id ``before``, or at the end."""
        self._require(id_, if_match)
        if id_ == before:
            raise InvalidEntry("a rule cannot go before itself", "before")
        position, _ = self._append() if before is None else self._insert(before, id_)
        self._end = None
        columns = {"position": position, **self._change.stamp}
        self._connection.execute(update(rules).where(rules.c.id == id_).values(columns))
        return self._change.reader.rule(self._connection, id_)

    def reorder(self, ids: Sequence[str]) -> None:
        """Put all of them into this order. Raises ``Conflict`` unless each is named once."""
        if sorted(ids) != sorted(self._ordered()):
            raise Conflict("These are not the rules there are, each once; read them again")
        self._renumber(ids)

    def _conditions(self, rule: Rule) -> dict[str, Any]:
        if rule.filter:
            self._change.require_filter(require_text(rule.filter, "filter", _LONGEST_FILTER))
        lists = {
            "hosts": rule.hosts,
            "clients": [str(network) for network in rule.clients],
            "ports": rule.ports,
        }
        return {
            **{key: json.dumps(listed) if listed else None for key, listed in lists.items()},
            "name": rule.name,
            "filter": rule.filter,
            "family": rule.family,
            "target_family": rule.target_family,
        }

    def _use(self, rule: Rule, stated: object) -> dict[str, Any]:
        """The columns that say what the rule uses; an inline proxy is stored on the way."""
        use, change = rule.use, self._change
        if isinstance(use, Proxy):
            named = not isinstance(stated, Mapping) or bool(stated.get("name"))
            return {**_NO_USE, "upstream_id": self._add_inline(use, named)}
        if use in (DIRECT, REFUSE):
            return {**_NO_USE, "use": use}
        if found := change.find(use):
            return {**_NO_USE, f"{found.kind}_id": found.id}
        if use in change.elsewhere.proxies or use in change.elsewhere.pools:
            return {**_NO_USE, "use": use}
        if "@" in use or "://" in use:  # it may hold a password
            raise InvalidEntry("use names no proxy or pool", "use")
        raise InvalidEntry(f"{use!r} names no proxy or pool", "use")

    def _add_inline(self, proxy: Proxy, named: bool) -> str:
        if named:
            self._change.require_free_name(proxy.name)
        id_ = str(uuid.uuid4())
        owner = password_owner("upstream_proxy_config", id_)
        password = self._change.cipher.seal(proxy.password.get_secret_value(), owner)
        row = {**hop_columns(proxy), "id": id_, "password": password}
        if not named:
            row["name"] = ""
        self._connection.execute(insert(upstream_proxy_config), [row])
        return id_

    def _remove_inline(self, id_: str | None) -> None:
        if id_ is not None:
            this = upstream_proxy_config.c.id == id_
            self._connection.execute(delete(upstream_proxy_config).where(this))

    def _require_free_name(self, name: str) -> None:
        if name.casefold() == "default":
            raise InvalidEntry(f"{name!r} is a reserved name", "name")
        if name and self._connection.execute(_NAMED, {"name": name}).first():
            raise InvalidEntry(f"{name!r} is used twice", "name")

    def _require(self, id_: str, if_match: str | None) -> Row:
        row = self._change.reader.rule_row(self._connection, require_id(id_))
        require_match(row["revision"], if_match)
        return row

    # -- the order

    def _ordered(self) -> Sequence[str]:
        query = select(rules.c.id).order_by(rules.c.position, rules.c.id)
        return self._connection.execute(query).scalars().all()

    def _append(self) -> tuple[int, int]:
        """A free position behind all of them, and the number that a new rule has there."""
        if self._end is None:
            last: int = self._connection.execute(_LAST).scalar_one() or 0
            self._end = last, rule_number(self._connection, last + 1) - 1
        position, number = self._end
        return position + _GAP, number + 1

    def _insert(self, before: str, moving: str = "") -> tuple[int, int]:
        """The same before another one; ``moving`` leaves its own place."""
        free = self._between(before, moving)
        if free is None:
            self._renumber(self._ordered())
            free = self._between(before, moving)
        if free is None:
            raise Conflict("There is no room in the order of the rules")
        return free, rule_number(self._connection, free)

    def _between(self, before: str, moving: str) -> int | None:
        query = select(rules.c.position).where(rules.c.id == require_id(before))
        after = self._connection.execute(query).scalar_one_or_none()
        if after is None:
            raise InvalidEntry("names no rule", "before")
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
