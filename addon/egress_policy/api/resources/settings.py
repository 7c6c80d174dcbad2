"""Settings of the registry."""

from dataclasses import replace
from typing import Final

from ...management.settings import SettingsView
from ..calls import Call, Response
from ..routes import PREFIX, Fields, Routes

ROUTES: Final = Routes()
_PATH: Final = f"{PREFIX}/settings"
_CHANGES: Final = Fields(SettingsView, partial=True)


@ROUTES.add("GET", _PATH, SettingsView)
async def show_settings(call: Call) -> Response:
    """Show what the registry says about the policy as a whole."""
    return Response(call.management.settings.show())


@ROUTES.add("PUT", _PATH, SettingsView, body=_CHANGES, errors=(503,))
async def change_settings(call: Call) -> Response:
    """Change settings: only those present change, null clears one."""
    return Response(await call.management.settings.change(call.body))


_PUT: Final = ROUTES[_PATH]["PUT"]
ROUTES[_PATH]["PATCH"] = replace(_PUT, id="change_settings_patch", summary="The same as PUT")
