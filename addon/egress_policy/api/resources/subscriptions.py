"""Subscriptions: lists of proxies behind URLs, and what a fetch of one changes."""

from typing import Final

from ...management.subscriptions import FetchReport, Subscriptions
from ..calls import Call, Response
from ..routes import PREFIX, Routes
from .crud import add_crud

ROUTES: Final = Routes()
_ERRORS: Final = (404, 409, 502, 503)

add_crud(ROUTES, Subscriptions, lambda management: management.subscriptions)


@ROUTES.add("POST", f"{PREFIX}/subscriptions/{{id}}/preview", FetchReport, errors=_ERRORS)
async def preview_subscription(call: Call) -> Response:
    """Fetch the list of a subscription and say what it would change."""
    return Response(await call.management.subscriptions.preview(call.arguments[0]))


@ROUTES.add("POST", f"{PREFIX}/subscriptions/{{id}}/refresh", FetchReport, errors=_ERRORS)
async def refresh_subscription(call: Call) -> Response:
    """Fetch the list of a subscription and take it."""
    return Response(await call.management.subscriptions.refresh(call.arguments[0]))
