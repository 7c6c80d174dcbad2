"""Settings of the registry."""

from dataclasses import replace
from typing import Final

from ...management.settings import SettingsView
from ..calls import Call, Response
from ..routes import PREFIX, ApiRoute, Fields, Operation


async def _show(call: Call) -> Response:
    return Response(call.management.settings.show())


async def _change(call: Call) -> Response:
    return Response(await call.management.settings.change(call.body))


_PUT: Final = Operation(
    "change_settings",
    "Change settings: only those present change, null clears one",
    _change,
    {200: SettingsView},
    body=Fields(SettingsView, partial=True),
    errors=(503,),
)

ROUTES: Final = (
    ApiRoute(
        f"{PREFIX}/settings",
        {
            "GET": Operation(
                "show_settings",
                "Show what the registry says about the policy as a whole",
                _show,
                {200: SettingsView},
            ),
            "PUT": _PUT,
            "PATCH": replace(_PUT, id="change_settings_patch", summary="The same as PUT"),
        },
    ),
)
