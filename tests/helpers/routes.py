"""Routes by a proxy, as they are made for its test."""

from egress_policy.model.decision import Choice, Egress, LoopCheck, Pin, Place, Route
from egress_policy.model.host import detect_ip_literal_family
from egress_policy.model.proxy import Proxy
from tests.helpers.lab import V4


def route_by(
    proxy: Proxy,
    addresses: tuple[str, ...] = (V4,),
    target: Place = ("origin.test", 80),
    loops: LoopCheck | None = None,
) -> Route:
    """Pinned to ``addresses``, which are of one family."""
    egress = Egress(proxy, proxy.family, proxy.target_family)
    family = detect_ip_literal_family(addresses[0]) if addresses else None
    return Route(Choice(egress), Pin(addresses, family), target, loops=loops)
