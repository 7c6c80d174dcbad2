from typing import Any

import pytest

from egress_policy.errors import Code, Reason
from egress_policy.model.decision import Egress, Refusal, Target
from egress_policy.model.proxy import Proxy

FIELDS: dict[str, Any] = {
    "name": "de-1",
    "type": "http",
    "host": "proxy.example.com",
    "port": 3128,
    "username": "alice",
    "password": "hunter2",
}


def egress(**changes: Any) -> Egress:
    return Egress(Proxy.model_validate(FIELDS | changes), "ipv4")


def test_equal_egresses_have_one_key() -> None:
    assert egress().key == egress().key


@pytest.mark.parametrize(
    "change",
    [
        {"name": "de-2"},
        {"type": "https"},
        {"host": "proxy.example.org"},
        {"port": 3129},
        {"username": "bob"},
        {"password": "hunter3"},
        {"username": "", "password": "alicehunter2"},
        {"plain_http": "connect"},
    ],
)
def test_any_edit_of_the_proxy_makes_another_key(change: dict[str, Any]) -> None:
    assert egress(**change).key != egress().key


def test_direct_and_every_family_have_their_own_key() -> None:
    proxy = egress().proxy
    egresses = [
        Egress(hop, family, target_family)
        for hop in (proxy, None)
        for family in ("auto", "ipv4", "ipv6")
        for target_family in (None, "ipv4", "ipv6")
    ]
    assert len({way.key for way in egresses}) == len(egresses) == 18


def test_key_does_not_hold_the_credentials() -> None:
    way = egress(host="h", name="n", username="e", password="f")
    assert len(way.key) == 16
    assert "hunter2" not in egress().key + repr(egress())


def test_name_of_an_egress() -> None:
    assert egress().name == "de-1"
    assert Egress(None).name == "direct"


def test_targets_differ_by_what_they_want_and_not_by_their_flow() -> None:
    assert Target("h", 443, flow=object()) == Target("h", 443, flow=object())
    assert Target("h", 443) != Target("h", 443, client="192.0.2.1")


def test_refusal_becomes_the_error_of_its_reason() -> None:
    refusal = Refusal(Reason.NO_RECORD, "no AAAA", proxy="de-1")
    error = refusal.to_error()
    assert refusal.code is Code.FAMILY_UNAVAILABLE
    assert (error.reason, error.code, str(error)) == ("no_record", refusal.code, "no AAAA")
