"""How a hop is judged: order of addresses, peers, forwarded requests, and what failures mean."""

import errno
import os
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.family import FamilyNumber
from egress_policy.model.host import detect_ip_literal_family
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import (
    OUT_OF_DESCRIPTORS,
    HopFailure,
    broken,
    declined,
    ended,
    interleave,
    is_forwarded,
    peer_family,
    silent,
    unanswered,
    unconnected,
    wrong_peer,
)
from egress_policy.sentence import Sentence

literals = st.ip_addresses().map(str)
v4, v6 = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
DIRECT = Egress(None, "ipv4")


def exit_by(**fields: Any) -> Egress:
    target_family = fields.pop("target_family", None)
    return Egress(Proxy(name="exit", host="proxy.test", **fields), "auto", target_family)


# --- the order of addresses


def test_families_take_turns_beginning_with_the_first() -> None:
    six, four = ["2001:db8::1", "2001:db8::2", "2001:db8::3"], ["192.0.2.1", "192.0.2.2"]
    assert interleave([*six, *four]) == (six[0], four[0], six[1], four[1], six[2])
    assert interleave([*four, *six]) == (four[0], six[0], four[1], six[1], six[2])
    assert interleave([]) == ()


@given(st.lists(literals))
def test_none_is_lost_and_each_family_keeps_its_order(addresses: list[str]) -> None:
    turns = interleave(addresses)
    known = list(dict.fromkeys(addresses))
    assert sorted(turns) == sorted(known)
    for family in (4, 6):
        of_family = [one for one in known if detect_ip_literal_family(one) == family]
        assert [one for one in turns if one in of_family] == of_family


# --- the peer


def mapped(address: str) -> str:
    return f"::ffff:{address}"


PLACES = {
    "v4": "192.0.2.1",
    "another v4": "192.0.2.2",
    "v4 mapped": "::ffff:192.0.2.1",
    "v6": "2001:db8::1",
    "v6 in full": "2001:0DB8:0:0::1",
    "another v6": "2001:db8::2",
    "link-local": "fe80::1",
    "scoped by name": "fe80::1%eth0",
    "scoped by number": "fe80::1%2",
}
SAME = (
    {"v4", "v4 mapped"},
    {"v6", "v6 in full"},
    {"link-local", "scoped by name", "scoped by number"},
)
"""Spellings of one address. The system leaves the scope out of a peer's address."""


@pytest.mark.parametrize("family", [None, 4, 6])
@pytest.mark.parametrize("dialled", PLACES)
@pytest.mark.parametrize("peer", PLACES)
def test_a_literal_leads_to_itself_in_the_pinned_family(
    dialled: str, peer: str, family: FamilyNumber | None
) -> None:
    same = dialled == peer or any({dialled, peer} <= one for one in SAME)
    right = same and family in (None, 4 if "v4" in peer else 6)
    failure = wrong_peer(PLACES[dialled], PLACES[peer], family)
    assert (failure is None) is right
    assert failure is None or failure.reason is Reason.PEER_MISMATCH


@given(literals, st.sampled_from([None, 4, 6]))
def test_a_name_leads_to_any_address_of_the_pinned_family(
    peer: str, family: FamilyNumber | None
) -> None:
    failure = wrong_peer("origin.test", peer, family)
    assert (failure is None) is (family in (None, detect_ip_literal_family(peer)))


@given(v4, v6)
def test_a_mapped_address_is_ipv4(four: str, six: str) -> None:
    assert peer_family(four) == peer_family(mapped(four)) == "ipv4"
    assert wrong_peer(four, mapped(four), 4) is None
    assert wrong_peer(mapped(four), mapped(four), 6) is not None
    assert wrong_peer(six, mapped(four), 6) is not None


@pytest.mark.parametrize(
    ("address", "family"),
    [("2001:db8::1", "ipv6"), ("::1", "ipv6"), ("fe80::1%eth0", "ipv6"), ("192.0.2.1", "ipv4")],
)
def test_a_peer_has_the_family_of_its_packets(address: str, family: str) -> None:
    assert peer_family(address) == family


# --- forwarded or tunnelled


@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
@pytest.mark.parametrize("target_family", [None, "ipv4", "ipv6"])
@pytest.mark.parametrize("plain_http", ["forward", "connect"])
@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_only_plain_http_is_forwarded_and_only_where_nothing_speaks_against_it(
    kind: Literal["http", "https", "socks5"],
    plain_http: Literal["forward", "connect"],
    target_family: Literal["ipv4", "ipv6"] | None,
    scheme: str,
) -> None:
    fields: dict[str, Any] = {
        "name": "exit",
        "host": "proxy.test",
        "type": kind,
        "plain_http": plain_http,
    }
    proxy = Proxy.model_construct(None, **fields)  # also what no policy may say
    egress = Egress(proxy, "auto", target_family)
    expected = (
        kind != "socks5" and plain_http == "forward" and not target_family and scheme == "http"
    )
    assert is_forwarded(egress, scheme, "origin.test") is expected


def test_a_direct_egress_forwards_nothing() -> None:
    assert not is_forwarded(DIRECT, "http", "origin.test")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"version": "HTTP/1.0"}, True),
        ({"version": "HTTP/2.0"}, False),
        ({"version": "HTTP/3"}, False),
        ({"upgrade": "h2c"}, True),
        ({"upgrade": "H2C"}, True),
        ({"upgrade": "websocket"}, False),
        ({"method": "POST"}, True),
        ({"method": "TRACE"}, False),
        ({"method": "trace"}, False),
        ({"path": "*"}, True),
        *(({"path": path}, False) for path in ("", "p", "@a/p", ":81/p", "*.a/p")),
    ],
)
def test_what_does_not_survive_an_http_hop_is_tunnelled(
    request_: dict[str, str], expected: bool
) -> None:
    assert is_forwarded(exit_by(), "http", "origin.test", **request_) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.0.2.7", True), ("2001:db8::1", True), ("fe80::1%eth0", False)],
)
def test_a_scope_id_is_kept_from_the_proxy(host: str, expected: bool) -> None:
    assert is_forwarded(exit_by(), "http", host) is expected


# --- failures


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNREFUSED, Reason.CONNECT_REFUSED),
        (errno.EHOSTUNREACH, Reason.CONNECT_REFUSED),
        (errno.ENETUNREACH, Reason.CONNECT_REFUSED),
        (errno.ETIMEDOUT, Reason.CONNECT_TIMEOUT),
        (errno.EMFILE, Reason.ERROR),
        (errno.ENFILE, Reason.ERROR),
    ],
)
def test_an_error_of_the_system_has_its_reason(number: int, reason: Reason) -> None:
    failure = unconnected("192.0.2.1", 3128, number, "[Errno 0] whatever mitmproxy says")
    assert failure.reason is reason
    if reason is Reason.ERROR:
        assert failure is OUT_OF_DESCRIPTORS
    else:
        assert failure.what == f"cannot connect to 192.0.2.1 port 3128: {os.strerror(number)}"


def test_an_error_without_a_number_is_told_as_it_is() -> None:
    failure = unconnected("192.0.2.1", 3128, None, "the connection was lost")
    assert failure.what == "cannot connect to 192.0.2.1 port 3128: the connection was lost"
    assert failure.reason is Reason.CONNECT_REFUSED


@pytest.mark.parametrize(
    ("failure", "reason", "words"),
    [
        (unanswered("192.0.2.1", 80, 5.0), Reason.CONNECT_TIMEOUT, "within 5 s"),
        (broken("no"), Reason.HANDSHAKE_FAILED, "no"),
        (broken("no", Cause.CREDENTIALS), Reason.PROXY_AUTH, "no"),
        (silent(10.0, ": a hint"), Reason.HANDSHAKE_FAILED, "in 10 s: a hint"),
        (ended(asked=True), Reason.HANDSHAKE_FAILED, "closed the connection in the handshake"),
    ],
    ids=["unanswered", "broken", "auth", "silent", "ended"],
)
def test_each_way_to_fail_has_its_reason(failure: Any, reason: Reason, words: str) -> None:
    assert failure.reason is reason
    assert failure.what.endswith(words)


@given(st.integers(100, 599))
def test_only_a_407_is_certainly_the_proxys_own(status: int) -> None:
    failure = declined(status)
    assert (failure is not None) is (status == 407)
    assert failure is None or failure.reason is Reason.PROXY_AUTH
    by_stranger = declined(status, by_stranger=True)
    assert (by_stranger is None) is (failure is None)
    assert by_stranger is None or not by_stranger.judgement.counts


def test_a_refusal_says_whose_fault_it_is_and_what_may_help() -> None:
    choice = Choice(exit_by(), rule="r")
    route = Route(choice, Pin(("192.0.2.1",), 4), ("origin.test", 443))
    refusal = broken("busy", Cause.LIMITED, 7.0).refusal(route)
    assert (refusal.fault, refusal.fails_over, refusal.retry_after) == ("proxy", True, 7.0)
    assert (refusal.detail, refusal.rule) == ("Proxy exit: busy", "r")


def test_what_does_not_answer_a_direct_connection_is_the_target() -> None:
    route = Route(Choice(DIRECT), Pin(("192.0.2.1",), 4), ("origin.test", 443))
    assert unanswered("192.0.2.1", 443, 5.0).refusal(route).fault == "target"
    assert OUT_OF_DESCRIPTORS.refusal(route).fault == "own"


def test_a_failure_names_the_proxy_if_there_is_one() -> None:
    failure = unanswered("192.0.2.1", 80, 5.0)
    assert failure.of(exit_by()) == "Proxy exit: no answer from 192.0.2.1 port 80 within 5 s"
    assert failure.of(DIRECT) == "No answer from 192.0.2.1 port 80 within 5 s"


@pytest.mark.parametrize(
    "failure",
    [
        unanswered("192.0.2.1", 80, 5.0),
        unconnected("192.0.2.1", 80, errno.ECONNREFUSED, ""),
        silent(10.0, ""),
        ended(asked=True),
        declined(407),
    ],
    ids=["unanswered", "unconnected", "silent", "ended", "declined"],
)
def test_each_failure_of_a_proxy_can_be_said_in_another_language(failure: HopFailure) -> None:
    route = Route(Choice(exit_by()), Pin(("192.0.2.1",), 4), ("origin.test", 443))
    detail = failure.refusal(route).detail
    assert isinstance(detail, Sentence)
    assert isinstance(detail.params["what"], Sentence)
