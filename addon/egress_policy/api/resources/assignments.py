"""Assignments: which scope leaves by which proxy."""

from typing import Annotated, Final, Literal

from pydantic import Field

from ...management.assignments import AssignmentView
from ...management.views import Page
from ..calls import Call, Response
from ..inputs import Id, Input, Paging
from ..routes import DONE, PREFIX, SUCCESS, WRITES, Routes

ROUTES: Final = Routes()
_PATH: Final = f"{PREFIX}/proxies/assignments"
_ASSIGNED: Final = {
    "type": "object",
    "properties": {**SUCCESS["properties"], "assignment": (AssignmentView, None)},
    "required": ["success", "assignment"],
}


class AssignmentQuery(Paging):
    scope: Annotated[str, Field(max_length=20)] = ""
    scopeId: Annotated[str, Field(max_length=1000)] = ""  # noqa: N815 (OmniRoute's spelling)
    proxyId: Annotated[str, Field(max_length=200)] = ""  # noqa: N815


class Assign(Input):
    """``proxyId`` null clears the scope; the global scope needs no ``scopeId``. A scope stays in
    its ``group`` unless another is given; empty is none."""

    scope: Literal["global", "host", "client", "user", "filter"]
    scopeId: Annotated[str, Field(min_length=1, max_length=1000)] | None = None  # noqa: N815
    proxyId: Id | None  # noqa: N815
    group: Annotated[str, Field(max_length=120)] | None = None


@ROUTES.add("GET", _PATH, Page[AssignmentView], query=AssignmentQuery)
async def list_assignments(call: Call) -> Response:
    """List which scope leaves by which proxy."""
    query: AssignmentQuery = call.query
    found = call.management.assignments.list(
        scope=query.scope,
        scope_id=query.scopeId,
        proxy_id=query.proxyId,
        limit=query.limit,
        offset=query.offset,
    )
    return Response(found)


@ROUTES.add("PUT", _PATH, _ASSIGNED, body=Assign, errors=WRITES, if_match=True)
async def assign(call: Call) -> Response:
    """Assign a scope to a proxy, or clear it."""
    body: Assign = call.body
    assignments = call.management.assignments
    made = await assignments.assign(
        body.scope, body.scopeId, body.proxyId, call.if_match, body.group
    )
    return Response({**DONE, "assignment": made.model_dump(mode="json") if made else None})
