"""Assignments: which proxy a scope uses."""

from functools import partial

from ..registry.records import StoredAssignment
from .kind import Row, page
from .proxies import Proxies
from .upkeep import Upkeep
from .views import Entry, Page, entry_fields


class AssignmentView(Entry):
    """Which proxy a scope leaves by. Named as in OmniRoute. Scopes of one ``group`` should not
    share an exit."""

    scope: str
    scopeId: str  # noqa: N815 (OmniRoute's spelling)
    proxyId: str  # noqa: N815
    proxy: str = ""
    group: str = ""


class Assignments:
    """Only the registry has assignments. Changes raise the errors of ``Kind``."""

    def __init__(self, upkeep: Upkeep, proxies: Proxies) -> None:
        self._upkeep = upkeep
        self._in_force = upkeep.in_force
        self._proxies = proxies

    def list(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        scope: str = "",
        scope_id: str = "",
        proxy_id: str = "",
    ) -> Page[AssignmentView]:
        rows = [
            Row(one.id, one.label, partial(_view, one))
            for one in self._in_force.stored.assignments
            if scope in ("", one.scope)
            and scope_id in ("", one.scope_id)
            and proxy_id in ("", one.proxy_id)
        ]
        return page(rows, limit, offset)

    async def assign(
        self,
        scope: str,
        scope_id: str | None,
        proxy: str | None,
        if_match: str | None = None,
        group: str | None = None,
    ) -> AssignmentView | None:
        """Set the proxy of a scope, by id or name; ``None`` clears it. ``group`` is another group,
        empty for none; with ``None`` the scope stays in its group."""
        id_ = None if proxy is None else await self._proxies.find_own(proxy)
        stored = await self._upkeep.change(
            lambda edit: edit.assignments.put(scope, scope_id, id_, if_match, group)
        )
        return _view(stored) if stored else None


def _view(stored: StoredAssignment) -> AssignmentView:
    return AssignmentView(
        **entry_fields(stored),
        scope=stored.scope,
        scopeId=stored.scope_id,
        proxyId=stored.proxy_id,
        proxy=str(stored.rule.use),
        group=stored.group,
    )
