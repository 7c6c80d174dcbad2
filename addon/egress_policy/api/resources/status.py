"""What is in force: for people, for health checks, and for Prometheus."""

import asyncio
from typing import Final

from ...management.status import StatusView
from ...sentence import Sentence
from ..calls import Call, Response
from ..problems import Problem
from ..routes import PREFIX, Routes

ROUTES: Final = Routes()
_WORD: Final = {
    "type": "object",
    "properties": {"status": {"enum": ["ok", "refusing"]}},
    "required": ["status"],
}


@ROUTES.add("GET", f"{PREFIX}/status", StatusView)
async def show_status(call: Call) -> Response:
    """Show what is in force."""
    return Response(call.management.status())


@ROUTES.add("GET", "/healthz", _WORD, (503, _WORD), access="anybody")
async def show_health(call: Call) -> Response:
    """Say whether the policy is in force."""
    if call.management.in_force.problem:
        return Response({"status": "refusing"}, 503)
    return Response({"status": "ok"})


@ROUTES.add("GET", "/metrics", {"type": "string"}, errors=(501,), media=("text/plain",))
async def show_metrics(call: Call) -> Response:
    """Metrics for Prometheus."""
    try:
        from ..metrics import CONTENT_TYPE, render
    except ImportError as error:
        hint = "pip install 'mitmproxy-egress-policy[metrics]'"
        needs = "Metrics need prometheus-client: {command}"
        why = Sentence("metrics_need", needs, command=hint)
        raise Problem(501, "NOT_AVAILABLE", why) from error
    text = await asyncio.to_thread(render, call.management.measure())
    return Response(text, type_=CONTENT_TYPE)
