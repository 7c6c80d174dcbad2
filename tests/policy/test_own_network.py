"""A dead proxy or our own dead network: a pool under load in simulated time, and single cases."""

import pytest

from egress_policy.policy.health.circuit import Strike
from egress_policy.policy.health.own_network import OwnNetwork
from egress_policy.policy.hop import unanswered
from tests.helpers.uplink import STRATEGIES, Load, at_random, member, steady

POOL = [member(number) for number in range(1, 6)]
DEAD = frozenset({"home-1"})


# --- under load


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("start", [0.0, 7.0])
@pytest.mark.parametrize("rtt", [0.02, 0.3])
def test_no_circuit_opens_while_the_uplink_is_down(strategy: str, start: float, rtt: float) -> None:
    for length, rate, seed in [(8, 20, 1), (8, 20, 2), (8, 2, 3), (4, 20, 4), (15, 20, 5)]:
        load = Load(POOL, STRATEGIES[strategy], [(start, start + length)], rtt=rtt, seed=seed)
        load.run(at_random(rate, start + length + 12, seed))
        assert load.opened() == []


def test_a_network_that_is_down_is_suspected_until_it_answers() -> None:
    load = Load(POOL, STRATEGIES["round-robin"], [(10.0, 18.0)])
    load.run(steady(20, 30))
    kinds = [(event.kind, event.why) for event in load.events]
    why = "IPv4 (private): none of 3 addresses answers"
    assert kinds == [("own-network", why), ("own-network-up", "")]
    down, up = (event.at for event in load.events)
    assert 15 <= down <= 15.5
    assert 18 <= up <= 18.5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_black_hole_of_five_opens_promptly(strategy: str) -> None:
    # Its first failure makes it the dearest: it is hardly picked by what it costs.
    rate, within = (100, 8.0) if strategy == "latency" else (20, 12.0)
    load = Load(POOL, STRATEGIES[strategy], holes=DEAD)
    load.run(at_random(rate, 15, 1))
    assert {name for _, name in load.opened()} == DEAD
    assert load.opened()[0][0] <= within
    assert load.errors == []


def test_a_black_hole_opens_under_a_request_every_ten_seconds() -> None:
    load = Load(POOL, STRATEGIES["first"], holes=DEAD)
    load.run(steady(0.1, 60))
    assert load.opened()[0][0] <= 26
    assert load.errors == []


def test_dead_pools_are_not_dialled_for_ever() -> None:
    everybody = frozenset(one.name for one in POOL)
    load = Load(POOL, STRATEGIES["round-robin"], holes=everybody)
    load.run(steady(20, 100))
    assert {name for _, name in load.opened()} == everybody
    late = [at for at, _ in load.picks if at > 60]
    assert len(late) <= 60  # a packet a second, for a pool that gets twenty requests


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_dead_target_blames_nobody(strategy: str) -> None:
    for seed in range(3):
        load = Load(POOL, STRATEGIES[strategy], target_down=[(5.0, 15.0)], seed=seed)
        load.run(at_random(20, 25, seed))
        assert load.opened() == []


# --- single cases


def lost(began: float, seconds: float = 5.0) -> Strike:
    return Strike(began, began + seconds, unanswered("192.0.2.1", 80, seconds))


def test_an_answer_elsewhere_between_the_packets_proves_a_failure_at_once() -> None:
    network = OwnNetwork()
    network.answered("192.0.2.2", 2.0, 2.1)
    assert network.convicts_address("a", "192.0.2.1", lost(0), pooled=True)


@pytest.mark.parametrize("moment", [0.1, 3.4, 6.0])
def test_an_answer_before_or_after_them_proves_one_failure_of_many(moment: float) -> None:
    network = OwnNetwork()
    network.answered("192.0.2.2", -1.0, -0.9)
    for began in (0.0, 0.1, 0.2, 0.3):
        assert not network.convicts_address("a", "192.0.2.1", lost(began), pooled=True)
    proven = network.answered("192.0.2.2", moment, moment + 0.1)
    assert [key for key, _ in proven] == (["a"] if moment > 1 else [])
    assert network.answered("192.0.2.3", moment, moment + 0.1) == []


@pytest.mark.parametrize(
    "other",
    ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "8.8.8.8", "127.0.0.1"],
    ids=["itself", "itself, mapped", "IPv6", "the internet", "loopback"],
)
def test_an_answer_of_another_network_proves_nothing(other: str) -> None:
    network = OwnNetwork()
    network.answered("192.0.2.9", -3.0, -2.9)  # the address is not the only one that was tried
    network.answered(other, 2.0, 2.1)
    assert not network.convicts_address("a", "192.0.2.1", lost(0), pooled=True)
    assert network.answered(other, 6.0, 6.1) == []


def test_a_slow_answer_proves_nothing() -> None:
    network = OwnNetwork()
    network.answered("192.0.2.2", 2.0, 3.1)  # its first packet was lost
    assert not network.convicts_address("a", "192.0.2.1", lost(0), pooled=True)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0"]
)
def test_what_fails_on_loopback_is_proven(address: str) -> None:
    network = OwnNetwork()
    for began in (0.0, 0.1):
        assert network.convicts_address("a", address, lost(began), pooled=True)
    assert network.suspicion(6.0) == ""


@pytest.mark.parametrize(("pooled", "counts"), [(False, [0.0, 0.1]), (True, [6.0])])
def test_the_only_address_has_nothing_to_be_proven_by(pooled: bool, counts: list[float]) -> None:
    network = OwnNetwork()
    for began in (0.0, 0.1, 6.0):
        proven = network.convicts_address("a", "192.0.2.1", lost(began), pooled=pooled)
        assert proven is (began in counts or not pooled)


def test_a_server_that_accepts_and_says_nothing_is_proven_by_its_own_address() -> None:
    network = OwnNetwork()
    assert not network.convicts_server("a", "192.0.2.1", lost(0, 10.0))
    assert [key for key, _ in network.answered("192.0.2.1", 20.0, 20.1)] == ["a"]


def test_fewer_addresses_than_three_are_suspicious_if_they_are_all() -> None:
    network = OwnNetwork()
    network.silent("192.0.2.1", 0.0, 5.0)
    assert network.suspicion(5.0) == ""
    network.silent("192.0.2.2", 1.0, 6.0)
    assert network.suspicion(6.0)
    assert not network.suspicion(67.0)  # nobody has tried since
    network.answered("192.0.2.2", 7.0, 9.0)
    assert network.suspicion(9.0) == ""


def test_a_suspicion_of_long_ago_says_nothing_about_now() -> None:
    network = OwnNetwork()
    for began in (0.0, 1000.0):
        for number in range(1, 4):
            address = f"192.0.2.{number}"
            assert not network.convicts_address(address, address, lost(began), pooled=True)
        assert network.suspicion(began + 5.0)
