"""The resources of the API, a file each: what its routes take, do and answer."""

from typing import Final

from ..routes import Routes
from . import (
    assignments,
    events,
    exits,
    explain,
    flows,
    pools,
    proxies,
    rules,
    session,
    settings,
    status,
    subscriptions,
)

ROUTES: Final = Routes()
for _resource in (
    proxies, subscriptions, assignments, pools, rules, settings, exits, events, explain, status,
    flows, session,
):  # fmt: skip
    ROUTES.update(_resource.ROUTES)
