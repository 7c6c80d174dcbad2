"""Flows as they end, for a live view."""

import re
from typing import Final

from ..calls import Call, Response
from ..routes import PREFIX, ApiRoute, Operation

LIVE: Final = f"{PREFIX}/flows/live"
"""Server-sent events, without an end."""


async def _watch(call: Call) -> Response:
    last = call.headers.get("Last-Event-ID", "")
    since = int(last) if re.fullmatch(r"[0-9]{1,15}", last) else 0
    stream = await call.live_views.open(since)
    return Response(stream, type_="text/event-stream", headers={"X-Accel-Buffering": "no"})


ROUTES: Final = (
    ApiRoute(
        LIVE,
        {
            "GET": Operation(
                "watch_flows",
                "Flows as they end, as server-sent events: flow, and lost with a count",
                _watch,
                {200: {"type": "string"}},
                media=("text/event-stream",),
            )
        },
    ),
)
