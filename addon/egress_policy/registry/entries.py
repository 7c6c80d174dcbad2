"""Rows of the registry to its entries. Pure, but for the cipher.

Rows may have been edited by hand. What is merely missing has its default; what is unknown makes
the entry unusable, and never removes a pin, a condition or an egress from a rule.
"""

from collections.abc import Collection, Sequence
from types import MappingProxyType
from typing import Any, Final

from pydantic_core import from_json

from ..errors import InvalidEntry
from ..model.family import ProxyFamily, require_proxy_family
from ..model.proxy import Proxy
from ..model.rule import REFUSE, Pool, Rule, is_reserved, name_of_deleted
from .records import (
    Row,
    StoredAssignment,
    StoredPool,
    StoredProxy,
    StoredRule,
    rule_label,
)
from .scopes import scope_condition
from .secrets import Cipher
from .validation import validate

HOP_FIELDS: Final = (
    *("name", "type", "host", "port", "family", "username", "target_family", "plain_http"),
    *("region", "notes", "status"),
)
"""The fields of a proxy that are columns as they are; ``password`` is the one that is not."""

_LISTS: Final = ("hosts", "clients", "ports")


def stored_proxy(row: Row, cipher: Cipher) -> StoredProxy:
    proxy, problem = None, ""
    try:
        proxy = validate(Proxy, read_hop(row, cipher, password_owner("proxy_registry", row["id"])))
        require_own_name(row["name"])
    except InvalidEntry as error:
        proxy, problem = None, str(error)
    return StoredProxy(**common(row), **listed(row), problem=problem, proxy=proxy)


def stored_pool(row: Row, members: Sequence[Row], taken: Collection[str] = ()) -> StoredPool:
    """``members`` are rows of ``pool_members`` with the proxy's name; ``taken`` are names of
    proxies."""
    pool, problem = None, ""
    try:
        names = [reference(member, "proxy") or member["name"] for member in members]
        fields = {key: row[key] for key in ("name", "strategy", "sticky_by", "sticky_minutes")}
        pool = validate(Pool, {**fields, "members": names})
        require_own_name(row["name"], taken)
    except InvalidEntry as error:
        pool, problem = None, str(error)
    return StoredPool(**common(row), **listed(row), problem=problem, pool=pool)


def stored_rule(row: Row, inline: Row, cipher: Cipher, number: int) -> StoredRule:
    """``row`` also has the names of what the rule uses; ``inline`` is the row of its inline proxy,
    empty for none."""
    fields, problem = conditions(row), ""
    if not fields["name"]:
        fields["name"] = rule_label(number)  # so that no rule is made twice
    try:
        use = stored_use(row, inline, cipher)
        rule = validate(Rule, {**fields, **stored_families(row), "use": use})
    except InvalidEntry as error:
        rule, problem = _stand_in(fields), str(error)
    named = bool(rule.name and row["name"])
    if not rule.name:
        rule = rule.model_copy(update={"name": rule_label(number)})
    return StoredRule(**common(row), problem=problem, number=number, labelled=rule, named=named)


def stored_assignment(row: Row) -> StoredAssignment:
    """``row`` also has the name of the proxy."""
    scope, scope_id, problem = str(row["scope"]), str(row["scope_id"]), ""
    rule = Rule(use=REFUSE)
    try:
        condition = scope_condition(scope, scope_id)
        rule = validate(Rule, {**condition, "use": REFUSE})
        rule = validate(Rule, {**condition, "use": reference(row, "proxy")})
    except InvalidEntry as error:
        problem = str(error)
    rule = rule.model_copy(update={"name": f"{scope}:{scope_id}"})
    return StoredAssignment(
        **common(row),
        problem=problem,
        scope=scope,
        scope_id=scope_id,
        proxy_id=str(row["proxy_id"]),
        rule=rule,
    )


def read_hop(row: Row, cipher: Cipher, owner: str) -> dict[str, Any]:
    """The fields of ``Proxy`` that a row states, the password in clear."""
    fields: dict[str, Any] = {
        key: value for key in HOP_FIELDS if (value := row.get(key)) is not None
    }
    fields["family"] = stored_family(row.get("family"))
    sealed = row.get("password")
    fields["password"] = cipher.open(None if sealed is None else str(sealed), owner)
    return fields


def stored_family(value: object) -> ProxyFamily:
    """A missing one is auto; raises ``InvalidEntry`` for an unknown one."""
    try:
        return "auto" if value is None else require_proxy_family(value)
    except InvalidEntry as error:
        shown = repr(value)[:40]
        raise InvalidEntry(
            f"the stored family {shown} is none of auto, ipv4 and ipv6", "family"
        ) from error


def password_owner(table: str, id_: object) -> str:
    """What the password of a row is bound to."""
    return f"{table}/{id_}"


def conditions(row: Row) -> dict[str, Any]:
    """The fields of ``Rule`` that say how it is called and what it matches."""
    stated = {key: _listed(row[key]) for key in _LISTS if row[key] is not None}
    if row["filter"]:
        stated["filter"] = row["filter"]
    return {**stated, "name": row["name"]}


def stored_use(row: Row, inline: Row, cipher: Cipher) -> object:
    """The field ``use`` of ``Rule``: a name, or the fields of the inline proxy."""
    if row["upstream_id"] is None:
        return reference(row, "proxy") or reference(row, "pool") or row["use"]
    fields = read_hop(inline, cipher, password_owner("upstream_proxy_config", row["upstream_id"]))
    if not fields.get("name"):
        fields.pop("name", None)
    return fields


def stored_families(row: Row) -> dict[str, Any]:
    """The fields of ``Rule`` that pin what it uses."""
    keys = ("family", "target_family")
    return {key: row[key] for key in keys if row[key] is not None}


def reference(row: Row, kind: str) -> str | None:
    """The name of the proxy or pool that a row refers to, if it refers to one.

    One that was deleted gets a name that nothing has; its row may be gone as well. Raises
    ``InvalidEntry`` for a name that would mean something else in a rule.
    """
    id_, name = row[f"{kind}_id"], row[f"{kind}_name"]
    if id_ is None:
        return None
    if name is None or row[f"{kind}_deleted_at"] is not None:
        return name_of_deleted(name or kind, id_)
    return require_own_name(name)


def require_own_name(name: object, taken: Collection[str] = ()) -> str:
    """Raises ``InvalidEntry`` for a stored name that is reserved, taken or read as another."""
    text = str(name)
    if is_reserved(text) or text != text.strip() or text in taken:
        raise InvalidEntry(f"the stored name {text[:40]!r} is not allowed", "name")
    return text


def _stand_in(fields: dict[str, Any]) -> Rule:
    """Refuses what the unusable rule matches, or everything if that cannot be told."""
    for stated in (fields, {key: value for key, value in fields.items() if key != "name"}):
        try:
            return validate(Rule, {**stated, "use": REFUSE})
        except InvalidEntry:
            continue
    return Rule(use=REFUSE)


def common(row: Row) -> dict[str, Any]:
    """The fields of ``Stored``, its problem excepted."""
    return {
        "id": row["id"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "etag": str(row["revision"]),
    }


def listed(row: Row) -> dict[str, Any]:
    """The fields of a stored proxy or pool that say what lies there."""
    columns = dict(row)
    columns.pop("password", None)
    return {"name": str(row["name"]), "raw": MappingProxyType(columns)}


def _listed(text: object) -> object:
    """A JSON list; what is none stays as it is, and is rejected where a list is expected."""
    try:
        return from_json(text) if isinstance(text, str) else text
    except ValueError:
        return text
