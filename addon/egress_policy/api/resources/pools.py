"""Pools of proxies: their list, how their members fare, and their leases."""

from typing import Final, Literal

from ...management.members import ForgottenLeases, LeasesView, MembersView
from ...management.pools import Pools
from ...management.states import State
from ..calls import Call, Response
from ..inputs import Paging
from ..routes import PREFIX, Routes
from .crud import add_crud

ROUTES: Final = Routes()
_LEASES: Final = f"{PREFIX}/pools/{{id}}/leases"


class MemberQuery(Paging):
    """With ``state`` the members in that state."""

    state: Literal["", State] = ""


add_crud(ROUTES, Pools, lambda management: management.pools)


@ROUTES.add("GET", f"{PREFIX}/pools/{{id}}/members", MembersView, query=MemberQuery, errors=(404,))
async def list_members(call: Call) -> Response:
    """List the members of a pool, by its id or name, and how they fare."""
    return Response(call.management.members.list(call.arguments[0], **call.query.model_dump()))


@ROUTES.add("GET", _LEASES, LeasesView, query=Paging, errors=(404,))
async def list_leases(call: Call) -> Response:
    """List which keys of a sticky pool have which member."""
    return Response(call.management.members.leases(call.arguments[0], **call.query.model_dump()))


@ROUTES.add("DELETE", _LEASES, ForgottenLeases, errors=(404,))
async def forget_leases(call: Call) -> Response:
    """Forget the leases of a pool: its keys are dealt out anew."""
    return Response(call.management.forget_leases(call.arguments[0]))
