"""The address that accepted last is dialled first, and nothing else is."""

from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.policy.answered import REMEMBERED, Answered
from egress_policy.policy.hop import Outcome, broken

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"
REFUSED = broken("connection refused")


class Host:
    """A host whose addresses are dialled directly."""

    def __init__(self, seen: Answered, name: str = "origin.test", port: int = 443) -> None:
        self.seen, self.hop, self.addresses = seen, (name, port), (A, B)

    @property
    def pin(self) -> Pin:
        return Pin(self.addresses, 4)

    @property
    def order(self) -> tuple[str, ...]:
        return self.seen.first(self.pin, self.hop).addresses

    def dialled(self, outcome: Outcome) -> None:
        self.seen.heard(Route(Choice(Egress(None)), self.pin, self.hop), outcome)


def test_an_address_that_dns_no_longer_gives_is_not_dialled() -> None:
    host = Host(Answered())
    host.dialled(Outcome("dial", B))
    host.addresses = (A, C)
    assert host.order == (A, C)


def test_an_address_is_dialled_first_until_it_does_not_accept() -> None:
    host = Host(Answered())
    host.dialled(Outcome("dial", B))
    host.dialled(Outcome("dial", A, REFUSED))
    assert host.order == (B, A)
    host.dialled(Outcome("dial", B, REFUSED))
    assert host.order == (A, B)


def test_an_address_is_the_same_however_it_is_written() -> None:
    host = Host(Answered())
    host.addresses = ("2001:db8::1", "2001:db8::2")
    host.dialled(Outcome("dial", "2001:DB8:0::2"))
    assert host.order == ("2001:db8::2", "2001:db8::1")


def test_another_port_of_the_host_has_a_memory_of_its_own() -> None:
    seen = Answered()
    Host(seen).dialled(Outcome("dial", B))
    assert Host(seen, port=80).order == (A, B)


def test_what_is_remembered_is_bounded() -> None:
    seen = Answered()
    hosts = [Host(seen, f"h{number}.test") for number in range(REMEMBERED + 1)]
    for host in hosts:
        host.dialled(Outcome("dial", B))
    assert hosts[0].order == (A, B)
    assert hosts[1].order == hosts[-1].order == (B, A)
