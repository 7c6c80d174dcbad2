"""The entries as the faces list and change them: those of the policy file and of the registry.

Reading is from memory. A change answers when it is in the database and in force.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..errors import InvalidEntry, Reason
from ..model.rule import Policy, Rule
from ..registry.errors import NotFound, ReadOnly, Ref, Usage
from ..registry.records import RegistryState, StoredAssignment, StoredRule
from .in_force import PolicyInForce
from .merge import file_label
from .views import (
    FILE_ID,
    SORTS,
    AssignmentView,
    Page,
    PageInfo,
    PoolView,
    ProxyView,
    RuleView,
    SettingsView,
    TestResult,
    UsageView,
    View,
    view_assignment,
    view_file_pool,
    view_file_proxy,
    view_file_rule,
    view_stored_pool,
    view_stored_proxy,
    view_stored_rule,
    view_usage,
)

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _ProxyRow:
    """A proxy as far as lists look at it; ``view`` makes the rest."""

    id: str
    source: str
    name: str
    type: str
    host: str
    family: str
    status: str
    text: str
    used_by: int
    view: Callable[[int, TestResult | None], ProxyView]


class _Catalog:
    """What one state of file and registry comes to, worked out once."""

    def __init__(self, file: Policy, state: RegistryState | None, policy: Policy) -> None:
        self.uses: dict[str, int] = {}
        for name in _names_used(policy):
            self.uses[name] = self.uses.get(name, 0) + 1
        rows = [
            *(_file_row(proxy, self.uses.get(proxy.name, 0)) for proxy in file.proxies),
            *(_row(one, self.uses.get(one.name, 0)) for one in (state.proxies if state else ())),
        ]
        self.proxies = tuple(sorted(rows, key=lambda row: (row.name.casefold(), row.name)))
        self.by_key = {row.name: row for row in reversed(rows)}
        self.by_key |= {row.id: row for row in rows}


class Entries:
    """Addressed by id or name. Raises ``NotFound``; changes also raise what ``Registry`` does,
    ``ReadOnly`` for what the policy file states and ``RegistryUnavailable`` without a registry."""

    def __init__(
        self,
        in_force: PolicyInForce,
        last_test: Callable[[str], TestResult | None] = lambda _: None,
    ) -> None:
        self._policy = in_force
        self._last_test = last_test
        self._known: tuple[object, _Catalog] | None = None
        self._refusals: tuple[object, dict[str, str]] | None = None

    # -- proxies

    def proxies(
        self,
        *,
        q: str = "",
        family: str = "",
        status: str = "",
        source: str = "",
        sort: str = "name",
        limit: int = 50,
        offset: int = 0,
    ) -> Page[ProxyView]:
        """``q`` is looked for in name, host, region and notes. Raises ``InvalidEntry`` for a
        ``sort`` there is none of."""
        rows: Sequence[_ProxyRow] = self._catalog.proxies
        wanted = q.casefold()
        if wanted or family or status or source:
            rows = [
                row
                for row in rows
                if wanted in row.text
                and family in ("", row.family)
                and status in ("", row.status)
                and source in ("", row.source)
            ]
        rows = self._sorted(rows, sort)
        return page(rows, limit, offset, self._proxy_view)

    def proxy(self, key: str) -> ProxyView:
        return self._proxy_view(self._proxy_row(key))

    async def create_proxy(self, fields: Fields) -> ProxyView:
        stored = await self._policy.change(lambda registry: registry.create_proxy(fields))
        return await self._written_proxy(stored.id)

    async def update_proxy(
        self, key: str, changes: Fields, if_match: str | None = None
    ) -> ProxyView:
        id_ = self._own(self._proxy_row(key).id)
        await self._policy.change(lambda registry: registry.update_proxy(id_, changes, if_match))
        return await self._written_proxy(id_)

    async def _written_proxy(self, id_: str) -> ProxyView:
        # The catalog of thousands is made anew after an edit: not in the loop, which has traffic.
        await asyncio.to_thread(lambda: self._catalog)
        return self.proxy(id_)

    async def delete_proxy(
        self, key: str, *, force: bool = False, if_match: str | None = None
    ) -> None:
        id_ = self._own(self._proxy_row(key).id)
        await self._policy.change(
            lambda registry: registry.delete_proxy(id_, force=force, if_match=if_match)
        )

    # -- pools

    def pools(self, *, limit: int = 50, offset: int = 0) -> Page[PoolView]:
        return page(self._pool_views(), limit, offset)

    def pool(self, key: str) -> PoolView:
        return _find(self._pool_views(), key, attrgetter("name"), "pool")

    async def create_pool(self, fields: Fields) -> PoolView:
        stored = await self._policy.change(lambda registry: registry.create_pool(fields))
        return self.pool(stored.id)

    async def update_pool(self, key: str, changes: Fields, if_match: str | None = None) -> PoolView:
        id_ = self._own(self.pool(key).id)
        await self._policy.change(lambda registry: registry.update_pool(id_, changes, if_match))
        return self.pool(id_)

    async def delete_pool(
        self, key: str, *, force: bool = False, if_match: str | None = None
    ) -> None:
        id_ = self._own(self.pool(key).id)
        await self._policy.change(
            lambda registry: registry.delete_pool(id_, force=force, if_match=if_match)
        )

    # -- rules

    def rules(self, *, limit: int = 50, offset: int = 0) -> Page[RuleView]:
        """The file's first. Assignments are not among them."""
        return page(self._rules(), limit, offset, self._rule_view)

    def rule(self, key: str) -> RuleView:
        for rule in self._rules():
            if key in (_rule_id(rule), self._label(rule)):
                return self._rule_view(rule)
        raise NotFound("There is no such rule")

    async def create_rule(self, fields: Fields, before: str | None = None) -> RuleView:
        place = None if before is None else self._own(self.rule(before).id)
        stored = await self._policy.change(lambda registry: registry.create_rule(fields, place))
        return self.rule(stored.id)

    async def update_rule(self, key: str, changes: Fields, if_match: str | None = None) -> RuleView:
        id_ = self._own(self.rule(key).id)
        await self._policy.change(lambda registry: registry.update_rule(id_, changes, if_match))
        return self.rule(id_)

    async def delete_rule(self, key: str, if_match: str | None = None) -> None:
        id_ = self._own(self.rule(key).id)
        await self._policy.change(lambda registry: registry.delete_rule(id_, if_match))

    async def move_rule(
        self, key: str, before: str | None, if_match: str | None = None
    ) -> RuleView:
        """Put it before another rule of the registry, or at the end."""
        id_ = self._own(self.rule(key).id)
        place = None if before is None else self._own(self.rule(before).id)
        await self._policy.change(lambda registry: registry.move_rule(id_, place, if_match))
        return self.rule(id_)

    async def reorder_rules(self, ids: Sequence[str]) -> None:
        """All rules of the registry, each once. Raises ``Conflict`` otherwise."""
        await self._policy.change(lambda registry: registry.reorder_rules(ids))

    # -- assignments and settings

    def assignments(
        self,
        *,
        scope: str = "",
        scope_id: str = "",
        proxy_id: str = "",
        limit: int = 50,
        offset: int = 0,
    ) -> Page[AssignmentView]:
        state = self._policy.state
        found = [
            one
            for one in (state.assignments if state else ())
            if scope in ("", one.scope)
            and scope_id in ("", one.scope_id)
            and proxy_id in ("", one.proxy_id)
        ]
        return page(found, limit, offset, self._assignment_view)

    async def assign(
        self, scope: str, scope_id: str | None, proxy: str | None, if_match: str | None = None
    ) -> AssignmentView | None:
        """Which proxy, by id or name, a scope leaves by; ``None`` clears it."""
        id_ = None if proxy is None else self._own(self._proxy_row(proxy).id)
        stored = await self._policy.change(
            lambda registry: registry.assign(scope, scope_id, id_, if_match)
        )
        return self._assignment_view(stored) if stored else None

    def settings(self) -> SettingsView:
        state = self._policy.state
        return _settings_view(state.settings if state else {})

    async def change_settings(self, changes: Fields) -> SettingsView:
        """Only those in ``changes`` change; ``None`` clears one."""
        return _settings_view(
            await self._policy.change(lambda registry: registry.change_settings(changes))
        )

    def usage(self, key: str) -> UsageView:
        """What names a proxy or a pool."""
        rows: Iterable[Any] = (*self._catalog.proxies, *self._pool_views())
        found = next((row for row in rows if key in (row.id, row.name)), None)
        if found is None:
            raise NotFound("There is no such proxy or pool")
        state, name = self._policy.state, found.name
        rules = [rule for rule in self._rules() if _rule(rule).use == name]
        assigned = [one for one in (state.assignments if state else ()) if one.rule.use == name]
        pools = [pool for pool in self._pool_views() if name in pool.members]
        return view_usage(
            Usage(
                tuple(Ref(pool.id, pool.name) for pool in pools),
                tuple(Ref(_rule_id(rule), self._label(rule)) for rule in rules),
                tuple(Ref(one.id, one.label) for one in assigned),
            )
        )

    # -- from memory

    @property
    def _catalog(self) -> _Catalog:
        in_force = self._policy
        if self._known is None or self._known[0] is not in_force.policy:
            catalog = _Catalog(in_force.file or Policy(), in_force.state, in_force.policy)
            self._known = (in_force.policy, catalog)
        return self._known[1]

    def _sorted(self, rows: Sequence[_ProxyRow], sort: str) -> Sequence[_ProxyRow]:
        name, reverse = sort.removeprefix("-"), sort.startswith("-")
        if name not in SORTS:
            raise InvalidEntry(f"sort must be one of {', '.join(SORTS)}", "sort")
        if name == "name":
            return rows[::-1] if reverse else rows
        if name == "last_test":
            return sorted(rows, key=self._slowness, reverse=reverse)
        return sorted(rows, key=attrgetter(name), reverse=reverse)

    def _slowness(self, row: _ProxyRow) -> tuple[int, float]:
        """Good and fast first, then what failed, then what was not tested."""
        last = self._last_test(row.name)
        if last is None:
            return 2, 0.0
        return (0, last.total_ms or 0.0) if last.ok else (1, 0.0)

    def _proxy_row(self, key: str) -> _ProxyRow:
        row = self._catalog.by_key.get(key)
        if row is None:
            raise NotFound("There is no such proxy")
        return row

    def _proxy_view(self, row: _ProxyRow) -> ProxyView:
        return row.view(row.used_by, self._last_test(row.name))

    def _pool_views(self) -> list[PoolView]:
        file, state, uses = self._policy.file, self._policy.state, self._catalog.uses
        return [
            *(view_file_pool(one, uses.get(one.name, 0)) for one in (file.pools if file else ())),
            *(
                view_stored_pool(one, uses.get(one.name, 0))
                for one in (state.pools if state else ())
            ),
        ]

    def _rules(self) -> list["_FileRule | StoredRule"]:
        file, state = self._policy.file, self._policy.state
        numbered = enumerate(file.rules if file else (), 1)
        return [
            *(_FileRule(number, rule) for number, rule in numbered),
            *(state.rules if state else ()),
        ]

    def _label(self, rule: "_FileRule | StoredRule") -> str:
        if isinstance(rule, StoredRule):
            return rule.label
        state = self._policy.state
        return file_label(
            rule.rule, rule.number, bool(state and (state.rules or state.assignments))
        )

    def _rule_view(self, rule: "_FileRule | StoredRule") -> RuleView:
        label = self._label(rule)
        refuses = self._refusals_by_label.get(label, "")
        if isinstance(rule, StoredRule):
            return view_stored_rule(rule, refuses)
        return view_file_rule(rule.rule, rule.number, label, refuses)

    @property
    def _refusals_by_label(self) -> dict[str, str]:
        snapshot = self._policy.snapshot
        if self._refusals is None or self._refusals[0] is not snapshot:
            refusing = ((one.label, one.resolution.refusal) for one in snapshot.rules)
            found = {
                label: refusal.detail
                for label, refusal in refusing
                if refusal and refusal.reason is not Reason.RULE
            }
            self._refusals = (snapshot, found)
        return self._refusals[1]

    def _assignment_view(self, stored: StoredAssignment) -> AssignmentView:
        return view_assignment(stored, str(stored.rule.use))

    def _own(self, id_: str) -> str:
        if id_.startswith(FILE_ID):
            raise ReadOnly("This entry is stated in the policy file; change it there")
        return id_


@dataclass(frozen=True, slots=True)
class _FileRule:
    number: int
    rule: Rule


def page[R, V: View](
    found: Sequence[R],
    limit: int,
    offset: int,
    view: Callable[[R], V] = lambda one: one,  # type: ignore[assignment, return-value]
) -> Page[V]:
    """One page of what was found, as views."""
    items = tuple(view(one) for one in found[offset : offset + limit])
    return Page(items=items, page=PageInfo(limit=limit, offset=offset, total=len(found)))


def _names_used(policy: Policy) -> Iterable[str]:
    for pool in policy.pools:
        yield from pool.members
    for rule in policy.rules:
        if isinstance(rule.use, str):
            yield rule.use


def _find[V: View](views: Iterable[V], key: str, name: Callable[[V], str], kind: str) -> V:
    for view in views:
        if key in (getattr(view, "id", None), name(view)):
            return view
    raise NotFound(f"There is no such {kind}")


def _file_row(proxy: Any, used_by: int) -> _ProxyRow:
    return _ProxyRow(
        FILE_ID + proxy.name,
        "file",
        *_listed(proxy),
        used_by,
        lambda uses, last: view_file_proxy(proxy, uses, last),
    )


def _row(stored: Any, used_by: int) -> _ProxyRow:
    return _ProxyRow(
        stored.id,
        "registry",
        *(_listed(stored.proxy) if stored.proxy else _listed_raw(stored.raw)),
        used_by,
        lambda uses, last: view_stored_proxy(stored, uses, last),
    )


def _listed(proxy: Any) -> tuple[str, str, str, str, str, str]:
    text = "\n".join((proxy.name, proxy.host, proxy.region, proxy.notes)).casefold()
    return proxy.name, proxy.type, proxy.host, proxy.family, proxy.status, text


def _listed_raw(raw: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    name, type_, host, family, status, region, notes = (
        str(raw.get(key) or "")
        for key in ("name", "type", "host", "family", "status", "region", "notes")
    )
    return name, type_, host, family, status, "\n".join((name, host, region, notes)).casefold()


def _rule(rule: _FileRule | StoredRule) -> Rule:
    return rule.rule


def _rule_id(rule: _FileRule | StoredRule) -> str:
    return rule.id if isinstance(rule, StoredRule) else f"{FILE_ID}{rule.number}"


def _settings_view(settings: Mapping[str, str]) -> SettingsView:
    default = settings.get("default")
    known: Any = default if default in (None, "direct", "refuse") else "refuse"
    return SettingsView(default=known, test_url=settings.get("test_url"))
