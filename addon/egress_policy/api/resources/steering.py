"""Steering: giving hosts another way out, and taking that back."""

from typing import Annotated, Final

from pydantic import Field

from ...management.steering import HOSTS, Steered, Undone
from ..calls import Call, Response
from ..inputs import Input
from ..routes import PREFIX, WRITES, Routes

ROUTES: Final = Routes()


class Steer(Input):
    """``use`` is the name of a proxy or a pool, direct, refuse, or clear."""

    hosts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]],
        Field(min_length=1, max_length=HOSTS),
    ]
    use: Annotated[str, Field(min_length=1, max_length=120)]


@ROUTES.add("POST", f"{PREFIX}/steer", Steered, body=Steer, errors=WRITES)
async def steer(call: Call) -> Response:
    """Let hosts leave by a proxy, a pool or directly, refuse them, or clear what was set so"""
    body: Steer = call.body
    return Response(await call.management.steering.use(body.hosts, body.use))


@ROUTES.add("POST", f"{PREFIX}/undo", Undone, errors=WRITES)
async def undo(call: Call) -> Response:
    """Take back the last change that was made by steering."""
    return Response(await call.management.steering.undo())
