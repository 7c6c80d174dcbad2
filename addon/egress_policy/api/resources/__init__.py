"""The resources of the API, a file each: what its routes take, do and answer."""

from typing import Final

from ..routes import Routes
from . import (
    assignments,
    events,
    exits,
    explain,
    flows,
    overview,
    pools,
    proxies,
    rules,
    session,
    settings,
    status,
)

ROUTES: Final = Routes()
for _resource in (
    proxies, assignments, pools, rules, settings, exits, events, explain, status, overview, flows,
    session,
):  # fmt: skip
    ROUTES.update(_resource.ROUTES)
