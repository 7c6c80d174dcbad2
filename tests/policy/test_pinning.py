"""Steps from a host to its addresses: what they ask, and what they make of the answers."""

from egress_policy.errors import Reason
from egress_policy.model.decision import Egress, Pin, Refusal
from egress_policy.model.proxy import Proxy
from egress_policy.policy.listeners import Listeners
from egress_policy.policy.pinning import Steps, pin_direct, pin_hop
from tests.helpers.routing import V4, V6, Zone

AUTO = Egress(Proxy(name="auto", host="proxy.test"))
HOP = ("proxy.test", 8080)
TARGET = ("origin.test", 443)


def taken(steps: Steps[Pin], zone: Zone) -> Pin | Refusal:
    try:
        query = next(steps)
        while True:
            query = steps.send(zone.answer(query.host, query.family, note=True))
    except StopIteration as done:
        found: Pin | Refusal = done.value
        return found


def nowhere(*ports: int) -> Listeners:
    """Listeners at these ports of another machine."""
    listeners = Listeners(lambda _: False)
    listeners.of_proxy = lambda: [("192.0.2.9", port) for port in ports]
    return listeners


def test_a_proxy_that_is_not_pinned_is_resolved_by_the_system_families_in_turns() -> None:
    zone = Zone(proxy_test=[V6, "2001:db8::2", V4, "192.0.2.2"])
    found = taken(pin_hop(AUTO, HOP, nowhere()), zone)
    assert found == Pin((V6, V4, "2001:db8::2", "192.0.2.2"), None, dns_ms=1.5)
    assert zone.asked == [("proxy.test", None)]


def test_a_proxy_that_the_system_does_not_find_is_a_refusal() -> None:
    refusal = taken(pin_hop(AUTO, HOP, nowhere()), Zone())
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.host) == (Reason.DNS_FAILURE, "proxy.test")


def test_a_target_that_is_not_pinned_is_resolved_only_at_a_port_of_ours() -> None:
    zone = Zone(origin_test=[V4])
    assert taken(pin_hop(Egress(None), TARGET, nowhere(80)), zone) == Pin(("origin.test",), None)
    assert zone.asked == []
    found = taken(pin_hop(Egress(None), TARGET, nowhere(443)), zone)
    assert found == Pin((V4,), None, dns_ms=1.5)
    unknown = taken(pin_hop(Egress(None), TARGET, nowhere(443)), Zone())
    assert unknown == Pin(("origin.test",), None)


def test_a_target_that_mitmproxy_does_not_dial_is_resolved_by_the_system() -> None:
    zone = Zone(origin_test=[V4, V6])
    assert taken(pin_direct("origin.test"), zone) == Pin((V4, V6), None, dns_ms=1.5)
    assert zone.asked == [("origin.test", None)]
    assert taken(pin_direct(V6), zone) == Pin((V6,), 6)
    refusal = taken(pin_direct("unknown.test"), zone)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.host) == (Reason.DNS_FAILURE, "unknown.test")
