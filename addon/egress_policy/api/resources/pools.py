"""Pools of proxies."""

from typing import Final

from ...management.pools import Pools
from ..routes import Routes
from .crud import add_crud

ROUTES: Final = Routes()

add_crud(ROUTES, Pools, lambda management: management.pools)
