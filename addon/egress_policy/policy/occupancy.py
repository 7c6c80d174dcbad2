"""How many connections each proxy has, and whether its limit leaves room for another. Pure.

A connection counts from the moment at which its dial begins. A route may be dialled at several
addresses side by side and counts once.
"""

from collections import defaultdict

from ..model.decision import Egress, Route


class Occupancy:
    """The connections of each proxy as it was edited (``Egress.hop_key``)."""

    def __init__(self) -> None:
        self._dials: defaultdict[str, dict[int, int]] = defaultdict(dict)
        """For each key the routes, by ``id()``, with the number of their dials. The caller keeps
        a route alive until it has left."""
        self._found_full: set[str] = set()
        """The keys that somebody was told are full, and that nobody has left since."""

    @property
    def total(self) -> int:
        """How many connections all of them have together."""
        return sum(map(len, self._dials.values()))

    def active(self, egress: Egress) -> int:
        """How many connections it has."""
        routes = self._dials.get(egress.hop_key)
        return len(routes) if routes else 0

    def is_full(self, egress: Egress) -> bool:
        """Whether its limit leaves no room for another connection."""
        routes = self._dials.get(egress.hop_key)
        if not routes or egress.proxy is None:
            return False
        if not 0 < egress.proxy.max_connections <= len(routes):
            return False
        self._found_full.add(egress.hop_key)
        return True

    def enter(self, route: Route) -> bool:
        """Count a dial of a route. False, and not counted, if there is no room."""
        egress, routes = route.egress, self._dials[route.egress.hop_key]
        if id(route) not in routes and self.is_full(egress):
            return False
        routes[id(route)] = routes.get(id(route), 0) + 1
        return True

    def leave(self, route: Route) -> bool:
        """A dial of a route, or the connection that it made, has ended. Whether its proxy may have
        room now that was found full. The limit may have been edited since the route was made, so
        that only who asks again can tell."""
        key = route.egress.hop_key
        routes = self._dials[key]
        left = routes.pop(id(route), 0) - 1
        if left > 0:
            routes[id(route)] = left
            return False
        if not routes:
            del self._dials[key]
        if key not in self._found_full:
            return False
        self._found_full.remove(key)
        return True
