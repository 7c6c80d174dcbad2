"""The resources of the API, a file each: what its routes take, do and answer."""

from typing import Final

from ..routes import Routes
from . import (
    assignments,
    events,
    exits,
    explain,
    flows,
    link,
    overview,
    pools,
    proxies,
    rules,
    session,
    settings,
    status,
    steering,
    subscriptions,
)

ROUTES: Final = Routes()
for _resource in (
    proxies, subscriptions, assignments, pools, rules, settings, exits, events, explain, steering,
    status, overview, flows, session, link,
):  # fmt: skip
    ROUTES.update(_resource.ROUTES)
