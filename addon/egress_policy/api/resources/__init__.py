"""The resources of the API, a file each: what its routes take, do and answer."""

from typing import Final

from ..routes import ApiRoute
from . import assignments, explain, flows, pools, proxies, rules, session, settings, status

ROUTES: Final[tuple[ApiRoute, ...]] = (
    *proxies.ROUTES,
    *assignments.ROUTES,
    *pools.ROUTES,
    *rules.ROUTES,
    *settings.ROUTES,
    *explain.ROUTES,
    *status.ROUTES,
    *flows.ROUTES,
    *session.ROUTES,
)
