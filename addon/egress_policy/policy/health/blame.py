"""Whether a failure is that of one way, or of what all the ways lead to. Pure.

Proxies are ways to the internet, and to a target. When one fails, the proxy may be dead, or our
network, or the target behind it: the failure alone does not tell. What tells is whether the shared
thing worked by *another* way, and when:

- A connection is tried by packets that are sent again after 1, 3, 7 … seconds (Linux, RFC 6298).
  Where the shared thing worked at a moment between the first packet and the last, no single outage
  of it explains that all were lost. Such a failure is proven, at once.
- Where it worked only after the last packet, an outage may just have ended. Its end fails many
  attempts at the same time, so all that an outage can explain is counted once: of the failures that
  began before such a proof, one is proven. An outage thus never proves the several failures that
  open a circuit, while a dead proxy fails again, and each time another proof follows, as that of
  the fail-over right behind.

Until then a failure is in doubt, and after a while it is forgotten.
"""

from collections import OrderedDict
from typing import Final

from .circuit import SPAN, Strike

MARGIN: Final = 0.5
"""Seconds after the beginning of an attempt that do not count: its answer may have been under way
when an outage began, while a nearer way had answered already."""
_LAST_WAIT: Final = 0.5
"""Seconds that a packet needs to be answered."""
_SLOT: Final = 0.25
_KEPT: Final = 80
"""Slots of time in which it is remembered that the shared thing worked: 20 s, which is longer than
an attempt takes."""
_IN_DOUBT: Final = 4096

Proven = list[tuple[str, Strike]]
"""Strikes, each with the key of the egress that it counts against."""


class Blame:
    """Weighs the failures of the ways to one shared thing.

    A ``way`` is what the failures of an egress have in common: an address, or the egress itself. A
    ``key`` names the egress that a failure would count against.
    """

    def __init__(self) -> None:
        self._worked: OrderedDict[int, list[tuple[float, str]]] = OrderedDict()
        self._doubts: OrderedDict[str, tuple[str, Strike]] = OrderedDict()
        self._explained: OrderedDict[str, float] = OrderedDict()

    def worked(self, way: str, moment: float) -> Proven:
        """The shared thing worked by this way at the moment. Returns what that proves."""
        seen = self._worked.setdefault(int(moment // _SLOT), [])
        if len(seen) < 2 and all(way != other for _, other in seen):  # two: one is another way
            seen.append((moment, way))
        while len(self._worked) > _KEPT:
            self._worked.popitem(last=False)
        return self._proven_by(way, moment) if self._doubts else []

    def failed(self, key: str, way: str, strike: Strike) -> bool:
        """An attempt by this way has failed. Returns whether that is proven to be its own fault.

        Otherwise the failure may be proven later.
        """
        earliest, last = _earliest(strike), _last_packet(strike)
        after: float | None = None
        for seen in self._worked.values():
            for moment, other in seen:
                if other == way or moment < earliest:
                    continue
                if moment <= last:
                    self._doubts.pop(key, None)
                    return True
                after = moment if after is None else max(after, moment)
        if strike.sent < self._explained.get(key, float("-inf")):
            return False
        if after is not None:
            self._explain(key, after)
            return True
        self._doubts[key] = (way, strike)
        self._doubts.move_to_end(key)
        while len(self._doubts) > _IN_DOUBT:
            self._doubts.popitem(last=False)
        return False

    def excuse(self, way: str) -> bool:
        """The shared thing has failed by this way too: the others are no longer in doubt. Returns
        whether there were any."""
        others = [key for key, (its, _) in self._doubts.items() if its != way]
        for key in others:
            del self._doubts[key]
        return bool(others)

    def forget(self, key: str) -> None:
        """What failed by the egress is no longer in doubt."""
        self._doubts.pop(key, None)

    def _proven_by(self, way: str, moment: float) -> Proven:
        proven: Proven = []
        for key, (its, strike) in list(self._doubts.items()):
            if its == way or moment - strike.ended > SPAN:
                if moment > strike.sent:
                    del self._doubts[key]
            elif moment >= _earliest(strike):
                del self._doubts[key]
                self._explain(key, moment)
                proven.append((key, strike))
        return proven

    def _explain(self, key: str, moment: float) -> None:
        self._explained[key] = moment
        self._explained.move_to_end(key)
        while len(self._explained) > _IN_DOUBT:
            self._explained.popitem(last=False)


def _earliest(strike: Strike) -> float:
    """From when on something that worked is a proof."""
    return min(strike.ended, strike.sent + MARGIN)


def _last_packet(strike: Strike) -> float:
    """When the last packet of an attempt was sent that had time to be answered."""
    waited = strike.ended - strike.sent - _LAST_WAIT
    last = 0
    while 2 * last + 1 <= waited:
        last = 2 * last + 1
    return strike.sent + last
