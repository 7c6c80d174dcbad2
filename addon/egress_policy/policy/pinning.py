"""From a host to the addresses that are dialled for it, as steps that ask DNS what they need. Pure.

A step yields a ``Query`` or ``SystemQuery`` and is sent its ``DnsAnswer``. ``preflight.py`` has the
rules for one question; ``router.py`` asks.
"""

from collections.abc import Generator

from ..model.decision import Egress, Pin, Place, Refusal
from ..model.family import ProxyFamily
from ..model.host import Party, canonical_ip
from . import preflight
from .listeners import Listeners
from .preflight import DnsAnswer, Query, SystemQuery

type Steps[T] = Generator[Query | SystemQuery, DnsAnswer, T | Refusal]


def pin_host(host: str, family: ProxyFamily, party: Party = "Target") -> Steps[Pin]:
    """The addresses of a host under a family directive."""
    plan = preflight.plan(host, family, party)
    return preflight.judge(plan, (yield plan)) if isinstance(plan, Query) else plan


def pin_direct(host: str) -> Steps[Pin]:
    """The addresses that the system has for a target, for a dial that mitmproxy does not make."""
    found = yield from pin_host(host, "auto")
    if isinstance(found, Refusal) or canonical_ip(host) is not None:
        return found
    query = SystemQuery(host)
    return preflight.judge_by_system(query, (yield query))


def pin_hop(egress: Egress, hop: Place, listeners: Listeners) -> Steps[Pin]:
    """The addresses to dial for an egress, at ``hop``: its proxy, or the target of a direct one.

    The system resolves a name that is not pinned. The name of a proxy is resolved here, so
    that its addresses can be tried side by side. The name of a target is left to mitmproxy, as
    without this addon, unless mitmproxy listens at that port: then its addresses are checked
    first.
    """
    found = yield from pin_host(hop[0], egress.family, "Proxy" if egress.proxy else "Target")
    if isinstance(found, Refusal) or found.family is not None:
        return found
    query = SystemQuery(hop[0])
    if egress.proxy:
        return preflight.judge_by_system(query, (yield query))
    if listeners.at_port(hop[1]):
        checked = preflight.judge_by_system(query, (yield query))
        return found if isinstance(checked, Refusal) else checked
    return found
