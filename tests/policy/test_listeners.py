"""Listeners: any of this machine's addresses at a port that something of ours listens at."""

import pytest

from egress_policy.policy.listeners import Listeners


def listeners() -> Listeners:
    made = Listeners({"127.0.0.1", "home.test"}.__contains__)
    made.of_api = (("127.0.0.1", 20128),)
    made.of_proxy = lambda: [("::", 8080)]
    return made


@pytest.mark.parametrize(
    ("host", "port", "reached"),
    [
        ("127.0.0.1", 20128, True),
        ("127.0.0.1", 8080, True),
        ("home.test", 8080, True),
        ("127.0.0.1", 8081, False),
        ("192.0.2.1", 8080, False),
        ("else.test", 20128, False),
    ],
)
def test_both_host_and_port_have_to_be_ours(host: str, port: int, reached: bool) -> None:
    assert listeners().reached_by(host, port) is reached


def test_what_listens_is_asked_for_anew_each_time() -> None:
    made, now = listeners(), [("127.0.0.1", 1)]
    made.of_proxy = lambda: now
    assert made.at_port(1)
    now[:] = [("127.0.0.1", 2)]
    assert not made.at_port(1)
    assert made.at_port(2)


@pytest.mark.parametrize(
    ("hop", "host", "port", "may"),
    [
        (["127.0.0.1"], "any.test", 8080, True),
        (["192.0.2.1", "127.0.0.1"], "any.test", 8080, True),
        (["192.0.2.1"], "any.test", 8080, False),
        (["127.0.0.1"], "any.test", 8081, False),
        (["127.0.0.1"], "192.0.2.1", 8080, False),
    ],
)
def test_an_exit_on_this_machine_may_lead_a_name_here(
    hop: list[str], host: str, port: int, may: bool
) -> None:
    assert listeners().may_be_reached_by(hop, host, port) is may


def test_the_addresses_that_are_known_of_a_name_count() -> None:
    made = Listeners({"127.0.0.1"}.__contains__, lambda host: ["127.0.0.1"] * (host == "x.test"))
    made.of_api = (("127.0.0.1", 80),)
    assert made.reached_by("x.test", 80)
    assert not made.reached_by("y.test", 80)


def test_nothing_listens_at_first() -> None:
    assert not Listeners(lambda _: True).reached_by("127.0.0.1", 8080)
