"""Pools of proxies."""

from typing import Final

from ...management.pools import Pools
from .crud import crud

ROUTES: Final = (crud(Pools, lambda management: management.pools),)
