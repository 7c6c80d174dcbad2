"""Exits of proxies: what is known, who shares one, and what was seen of them."""

from typing import Annotated, Any, Final

from pydantic import Field

from ...management.exit_views import Looks, ProxyExits, Pushed, SharedExits
from ...management.views import Page
from ..calls import Call, Response
from ..inputs import Flag, Id, Input, Paging
from ..routes import DONE, PREFIX, SUCCESS, Routes

ROUTES: Final = Routes()
_PATH: Final = f"{PREFIX}/exits"
_TAKEN: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {**SUCCESS["properties"], "taken": {"type": "integer"}},
    "required": ["success", "taken"],
}


class ExitQuery(Paging):
    """With ``proxy``, an id or name, that proxy alone; with ``problem`` those whose exit is not as
    expected."""

    proxy: Annotated[str, Field(max_length=200)] = ""
    problem: Flag = False


class ObservationBody(Input):
    """``proxy`` is an id or name, ``address`` what a target saw, ``at`` when, in ISO 8601 with a
    zone; without it now."""

    proxy: Id
    address: Annotated[str, Field(min_length=1, max_length=100)]
    at: Annotated[str, Field(max_length=40)] | None = None


class ObservationsBody(Input):
    observations: Annotated[list[ObservationBody], Field(min_length=1, max_length=1000)]


class ProbeBody(Input):
    """Ids or names."""

    proxies: Annotated[list[Id], Field(min_length=1, max_length=100)]


@ROUTES.add("GET", _PATH, Page[ProxyExits], query=ExitQuery, errors=(404,))
async def list_exits(call: Call) -> Response:
    """List the exits of proxies, beside what is expected of them."""
    return Response(await call.management.exits.list(**call.query.model_dump()))


@ROUTES.add("GET", f"{_PATH}/shared", SharedExits)
async def list_shared_exits(call: Call) -> Response:
    """List the assignments of a group that leave by one exit."""
    return Response(await call.management.exits.shared())


@ROUTES.add("POST", f"{_PATH}/observations", _TAKEN, body=ObservationsBody, errors=(404,))
async def push_observations(call: Call) -> Response:
    """Take in which addresses targets saw: all of them or none."""
    pushed = [Pushed(one.proxy, one.address, one.at) for one in call.body.observations]
    return Response({**DONE, "taken": await call.management.exits.push(pushed)})


@ROUTES.add("POST", f"{_PATH}/probe", Looks, body=ProbeBody, errors=(404,))
async def probe_exits(call: Call) -> Response:
    """Look at the exits of proxies through the echo URLs of the settings."""
    return Response(await call.management.exit_looks.probe(call.body.proxies))
