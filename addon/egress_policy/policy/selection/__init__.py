"""Picks a member of a pool: one small class for each strategy, with what it remembers.

Every strategy picks among the members of the pool that are available at that moment, and among
those alone. Pure: clock, randomness and the condition of the members are parameters.
"""

from .leases import LeaseRow as LeaseRow
from .picker import PoolPicker as PoolPicker
from .picker import StickyKey as StickyKey
from .picker import by_client as by_client
