"""Flows as they end, for a live view."""

import re
from typing import Final

from ..calls import Call, Response
from ..inputs import Flag, Input
from ..routes import PREFIX, Routes

ROUTES: Final = Routes()
LIVE: Final = f"{PREFIX}/flows/live"
"""Server-sent events, without an end."""


class LiveQuery(Input):
    """Without ``queries`` the paths end before the question mark."""

    queries: Flag = True


@ROUTES.add("GET", LIVE, {"type": "string"}, query=LiveQuery, media=("text/event-stream",))
async def watch_flows(call: Call) -> Response:
    """Flows as they end, as server-sent events: flow, and lost with a count."""
    last = call.headers.get("Last-Event-ID", "")
    since = int(last) if re.fullmatch(r"[0-9]{1,15}", last) else 0
    stream = await call.live_views.open(since, call.query.queries)
    return Response(stream, type_="text/event-stream", headers={"X-Accel-Buffering": "no"})
