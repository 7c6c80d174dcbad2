"""What happened to proxies: circuits that opened and closed, exits that changed."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from ...management.events import EventsView
from ..calls import Call, Response
from ..inputs import Input, decimal
from ..routes import PREFIX, Routes

ROUTES: Final = Routes()


class EventQuery(Input):
    """With ``proxy``, a name, what happened to that proxy."""

    proxy: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=1000), BeforeValidator(decimal)] = 50


@ROUTES.add("GET", f"{PREFIX}/events", EventsView, query=EventQuery)
async def list_events(call: Call) -> Response:
    """List what happened to proxies, the newest first."""
    query: EventQuery = call.query
    items = call.management.events.list(query.proxy or None, query.limit)
    return Response(EventsView(items=items))
