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


def test_nothing_listens_at_first() -> None:
    assert not Listeners(lambda _: True).reached_by("127.0.0.1", 8080)
