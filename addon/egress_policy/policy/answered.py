"""Which address of a host accepted last: it is dialled first next time. Pure."""

from collections import OrderedDict
from dataclasses import replace
from typing import Final

from ..model.decision import Pin, Place, Route
from ..model.host import canonical_ip
from .hop import Outcome

REMEMBERED: Final = 4096
"""For how many proxies and hosts the address that accepted last is kept."""


class Answered:
    """The address that accepted last, for each hop, until it does not accept."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[Place, str] = OrderedDict()

    def heard(self, route: Route, outcome: Outcome) -> None:
        """Take in what came of a dial on a route."""
        hop, address = route.hop, canonical_ip(outcome.address) or outcome.address
        if outcome.failure:
            if self._addresses.get(hop) == address:
                del self._addresses[hop]
        elif len(route.pin.addresses) > 1:
            self._addresses[hop] = address
            self._addresses.move_to_end(hop)
            while len(self._addresses) > REMEMBERED:
                self._addresses.popitem(last=False)

    def first(self, pin: Pin, hop: Place) -> Pin:
        """The same addresses, with that which accepted last at the front."""
        good = self._addresses.get(hop)
        if good is None or good not in pin.addresses:
            return pin
        others = tuple(address for address in pin.addresses if address != good)
        return replace(pin, addresses=(good, *others))
