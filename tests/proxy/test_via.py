"""The reuse key: the same for one egress, different after any edit; a plain string means
nothing."""

import re
from typing import Any

import pytest
from mitmproxy.connection import Server
from mitmproxy.io import tnetstring
from mitmproxy.net.server_spec import ServerSpec

from egress_policy.model.decision import Choice, Egress
from egress_policy.model.proxy import Proxy
from egress_policy.proxy.via import choice_in, is_forward, via_for

SOCKS: dict[str, Any] = {
    "name": "Exit Nr. 1",
    "type": "socks5",
    "host": "proxy.example.com",
    "port": 1080,
    "family": "ipv4",
    "username": "alice",
    "password": "s3cret",
}


def via(forward: bool = False, choice: Choice | None = None, **edit: Any) -> ServerSpec:
    target_family = edit.pop("target_family", None)
    proxy = Proxy(**{**SOCKS, **edit})
    return via_for(choice or Choice(), Egress(proxy, proxy.family, target_family), forward)


def test_is_equal_for_equal_egresses_whatever_rule_chose_them() -> None:
    assert via() == via(choice=Choice(rule="another"))
    assert hash(via()) == hash(via(choice=Choice(rule="another")))


@pytest.mark.parametrize(
    "edit",
    [
        {"name": "exit nr. 1"},
        {"type": "http"},
        {"host": "proxy.example.org"},
        {"port": 1081},
        {"family": "ipv6"},
        {"family": "auto"},
        {"username": "bob"},
        {"password": "s3cret2"},
        {"username": "alices", "password": "3cret"},
        {"target_family": "ipv6"},
    ],
    ids=str,
)
def test_differs_after_an_edit(edit: dict[str, Any]) -> None:
    assert via(**edit) != via()


def test_differs_for_forwarded_and_tunnelled_requests() -> None:
    http: dict[str, Any] = {"type": "http", "username": "", "password": ""}
    assert via(True, **http) != via(False, **http)
    assert via(**http) != via(**http, plain_http="connect")


def test_differs_for_direct_egresses_of_two_families() -> None:
    keys = {via_for(Choice(), Egress(None, family), False) for family in ("auto", "ipv4", "ipv6")}
    assert len(keys) == 3


@pytest.mark.parametrize("name", ["x", "Exit Nr. 1", "ÄÖ / ü", "a" * 120, "-", "*.a\u2028b"])
def test_is_a_name_that_never_resolves_and_tells_no_secret(name: str) -> None:
    host = via(name=name)[1][0]
    assert re.fullmatch(r"[a-z0-9-]*~[0-9a-f]{16}\.egress\.invalid", host)
    assert len(host.partition(".")[0]) <= 63
    assert "alice" not in host
    assert "s3cret" not in host


def test_carries_the_choice_itself() -> None:
    choice = Choice(Egress(Proxy(**SOCKS), "ipv4"), rule="#7", pool="homes")
    assert choice_in(via(choice=choice)) is choice
    assert is_forward(via(True, choice=choice))
    assert not is_forward(via(False, choice=choice))


def test_a_plain_string_means_nothing() -> None:
    scheme, (host, port) = via(True)
    stored: ServerSpec = (scheme, (str.__str__(host), port))
    assert stored == via(True)
    assert choice_in(stored) is None
    assert not is_forward(stored)
    assert choice_in(None) is None
    assert not is_forward(None)


def test_means_nothing_after_a_connection_was_saved_or_copied() -> None:
    server = Server(address=("origin.test", 80), via=via(True))
    state = tnetstring.loads(tnetstring.dumps(server.get_state()))
    for other in (Server.from_state(state), server.copy()):
        assert other.via == server.via
        assert choice_in(other.via) is None
