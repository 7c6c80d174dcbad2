"""What is in force: for people, for whoever watches health, and for Prometheus."""

from typing import Final

from ...management.management import Management
from ...management.status import StatusView
from ..calls import Call, Response
from ..problems import Problem
from ..routes import PREFIX, ApiRoute, Operation

_WORD: Final = {
    "type": "object",
    "properties": {"status": {"enum": ["ok", "refusing"]}},
    "required": ["status"],
}


async def _show(call: Call) -> Response:
    return Response(call.management.status())


async def _health(call: Call) -> Response:
    return health(call.management)


def health(management: Management) -> Response:
    """Nothing but whether the policy is in force: anybody may ask."""
    if management.in_force.problem:
        return Response({"status": "refusing"}, 503)
    return Response({"status": "ok"})


async def _metrics(call: Call) -> Response:
    try:
        from ..metrics import CONTENT_TYPE, render
    except ImportError as error:
        hint = "pip install 'mitmproxy-egress-policy[metrics]'"
        raise Problem(501, "NOT_AVAILABLE", f"Metrics need prometheus-client: {hint}") from error
    return Response(render(call.management.status()), type_=CONTENT_TYPE)


ROUTES: Final = (
    ApiRoute(
        f"{PREFIX}/status",
        {"GET": Operation("show_status", "Show what is in force", _show, {200: StatusView})},
    ),
    ApiRoute(
        "/healthz",
        {
            "GET": Operation(
                "show_health",
                "Say whether the policy is in force",
                _health,
                {200: _WORD, 503: _WORD},
                access="anybody",
            )
        },
    ),
    ApiRoute(
        "/metrics",
        {
            "GET": Operation(
                "show_metrics",
                "Metrics for Prometheus",
                _metrics,
                {200: {"type": "string"}},
                errors=(501,),
                media=("text/plain",),
            )
        },
    ),
)
