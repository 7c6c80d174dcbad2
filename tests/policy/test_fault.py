"""Whose fault each failure is, and what follows: the whole table, from the bytes on."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.policy.fault import (
    JUDGEMENTS,
    Cause,
    of_connect_status,
    of_errno,
    of_socks_reply,
)
from egress_policy.policy.hop import (
    OUT_OF_DESCRIPTORS,
    HopFailure,
    answered_connect,
    answered_socks,
    broken,
    declined,
    ended,
    silent,
    unanswered,
    unconnected,
    wrong_peer,
)
from egress_policy.wire.http_connect import ConnectError, ConnectHandshake
from egress_policy.wire.redact import Redactor
from egress_policy.wire.socks5 import Handshake, Socks5Error


def dial(number: int) -> HopFailure:
    return unconnected("192.0.2.1", 80, number, "")


def connect(answer: str, *fields: str) -> HopFailure:
    """What a proxy's whole answer to CONNECT means."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {answer}", *fields, ""))
    with pytest.raises(ConnectError) as error:
        ConnectHandshake("origin.test", 443, Redactor("", "")).receive(head.encode())
    found = error.value
    return answered_connect(str(found), found.status, found.retry_after, found.error)


def garbage(data: bytes) -> HopFailure:
    with pytest.raises(ConnectError) as error:
        ConnectHandshake("origin.test", 443, Redactor("", "")).receive(data)
    return answered_connect(str(error.value), error.value.status)


def socks(data: bytes, username: str = "") -> HopFailure:
    """What a SOCKS5 server's bytes mean."""
    with pytest.raises(Socks5Error) as error:
        Handshake("origin.test", 443, username, username).receive(data)
    return answered_socks(str(error.value), error.value.reply, error.value.auth)


def replied(code: int) -> HopFailure:
    return socks(bytes((5, 0, 5, code)))


def ended_in(head: bytes) -> HopFailure:
    """The connection ends there."""
    handshake = ConnectHandshake("origin.test", 443, Redactor("", ""))
    handshake.receive(head)
    try:
        handshake.ended()
    except ConnectError as error:
        return answered_connect(str(error), error.status, error.retry_after, error.error)
    return ended(asked=True)


def mismatch() -> HopFailure:
    failure = wrong_peer("192.0.2.1", "192.0.2.2", 4)
    assert failure is not None
    return failure


def other_credentials() -> HopFailure:
    failure = declined(407)
    assert failure is not None
    return failure


OWN = ("own", False, False)
NO_ROUTE = ("own", False, True)
PROXY = ("proxy", True, True)
LIMITED = ("proxy", False, True)
FORBIDDEN = ("proxy", False, False)
UNDECIDED = ("undecided", False, True)
OF_TARGET = ("target", False, False)
NOBODY = ("", False, False)

ROWS: list[tuple[str, HopFailure, tuple[str, bool, bool]]] = [
    # this machine
    *((errno.errorcode[n], dial(n), NO_ROUTE) for n in (errno.ENETUNREACH, errno.EADDRNOTAVAIL)),
    *((errno.errorcode[n], dial(n), OWN) for n in (errno.EACCES, errno.ENOBUFS)),
    ("EMFILE", dial(errno.EMFILE), OWN),
    ("out of descriptors", OUT_OF_DESCRIPTORS, OWN),
    # the proxy: no connection
    *((errno.errorcode[n], dial(n), PROXY) for n in (errno.ECONNREFUSED, errno.ECONNRESET)),
    *((errno.errorcode[n], dial(n), PROXY) for n in (errno.ETIMEDOUT, errno.EHOSTUNREACH)),
    ("no answer in time", unanswered("192.0.2.1", 80, 5.0), PROXY),
    # the proxy: no handshake
    ("TLS or a certificate", broken("TLS with the proxy failed"), PROXY),
    ("end before the target was asked for", ended(asked=False), PROXY),
    ("end once the target was asked for", ended(asked=True), UNDECIDED),
    ("end within a status line", ended_in(b"HTTP/1.1 50"), UNDECIDED),
    ("silence before the target was asked for", silent(10.0, ""), PROXY),
    ("garbage for HTTP", garbage(b"SSH-2.0-x"), PROXY),
    ("garbage for SOCKS", socks(b"SSH-2.0-x"), PROXY),
    ("garbage for a reply", socks(b"\x05\x00\x04"), PROXY),
    *((str(status), connect(str(status)), PROXY) for status in (101, 302, 400, 401, 402, 501, 511)),
    ("SOCKS method", socks(b"\x05\x7f"), PROXY),
    *((f"SOCKS {code:02x}", replied(code), PROXY) for code in (7, 8, 9, 255)),
    ("proxy_internal_error", connect("500", "Proxy-Status: a; error=proxy_internal_error"), PROXY),
    ("proxy_loop", connect("502", "Proxy-Status: a; error=proxy_loop_detected"), PROXY),
    # the proxy: credentials
    ("407", connect("407"), PROXY),
    ("407 to a forwarded request", other_credentials(), PROXY),
    ("SOCKS FF", socks(b"\x05\xff"), PROXY),
    ("SOCKS password", socks(b"\x05\x02\x01\x01", "alice"), PROXY),
    # the proxy: too much, or not this target
    ("429", connect("429"), LIMITED),
    ("429 for a while", connect("429", "Retry-After: 5"), LIMITED),
    ("503 for a while", connect("503", "Retry-After: 5"), LIMITED),
    ("its limit", connect("503", "Proxy-Status: a; error=connection_limit_reached"), LIMITED),
    *((str(status), connect(str(status)), FORBIDDEN) for status in (403, 405, 451)),
    ("prohibited", connect("502", "Proxy-Status: a; error=destination_ip_prohibited"), FORBIDDEN),
    ("SOCKS 02", replied(2), FORBIDDEN),
    # the proxy or the target
    *((str(status), connect(str(status)), UNDECIDED) for status in (404, 500, 502, 503, 504, 522)),
    ("timeout", connect("504", "Proxy-Status: a; error=connection_timeout"), UNDECIDED),
    ("unavailable", connect("503", "Proxy-Status: a; error=destination_unavailable"), UNDECIDED),
    ("end within the head of a 502", ended_in(b"HTTP/1.1 502 No\r\nA: b"), UNDECIDED),
    *((f"SOCKS {code:02x}", replied(code), UNDECIDED) for code in (1, 3, 6)),
    ("silence after the target was asked for", silent(10.0, "", asked=True), UNDECIDED),
    # the target
    *((f"SOCKS {code:02x}", replied(code), OF_TARGET) for code in (4, 5)),
    ("refused there", connect("502", "Proxy-Status: a; error=connection_refused"), OF_TARGET),
    ("no such host", connect("502", "Proxy-Status: a; error=dns_error"), OF_TARGET),
    ("not found", connect("500", "Proxy-Status: a; error=destination_not_found"), OF_TARGET),
    # none of them
    ("peer mismatch", mismatch(), NOBODY),
]


@pytest.mark.parametrize(("failure", "judged"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS])
def test_each_failure_is_judged_as_the_table_says(
    failure: HopFailure, judged: tuple[str, bool, bool]
) -> None:
    found = failure.judgement
    assert (found.fault, found.counts, found.fails_over) == judged


def test_every_cause_is_judged() -> None:
    assert set(JUDGEMENTS) == set(Cause)


@pytest.mark.parametrize("judgement", JUDGEMENTS.values(), ids=[cause.name for cause in JUDGEMENTS])
def test_only_a_fault_of_the_proxy_counts_and_what_counts_fails_over(judgement: object) -> None:
    found = next(one for one in JUDGEMENTS.values() if one is judgement)
    assert found.fault == "proxy" or not found.counts
    assert found.fails_over or not found.counts
    assert not (found.fails_over and found.fault == "target")


def test_a_dead_target_is_never_the_fault_of_the_proxy_alone() -> None:
    """What tinyproxy, squid and microsocks answer for a target that refuses, or has no address."""
    for failure in (
        connect("500 Unable to connect"),
        connect("503 Service Unavailable", "X-Squid-Error: ERR_CONNECT_FAIL 111"),
        connect("500 Internal Server Error", "X-Squid-Error: ERR_CANNOT_FORWARD 0"),
        replied(5),
        replied(1),
    ):
        assert not failure.judgement.counts
        assert failure.cause is not Cause.LIMITED


def test_how_long_the_proxy_wants_to_be_left_alone_is_kept() -> None:
    assert connect("429", "Retry-After: 5").retry_after == 5.0
    assert connect("429").retry_after is None


@pytest.mark.parametrize(
    ("status", "error"), [(403, "dns_error"), (407, "dns_error"), (429, "connection_refused")]
)
def test_what_a_proxy_says_about_the_client_stands(status: int, error: str) -> None:
    assert of_connect_status(status, error=error) is of_connect_status(status)


@given(st.integers(0, 999), st.booleans(), st.text(max_size=20))
def test_every_status_reply_and_errno_has_a_cause(number: int, pause: bool, error: str) -> None:
    assert of_connect_status(number, pause=pause, error=error) in Cause
    assert of_socks_reply(number) in Cause
    assert of_errno(number) in Cause
    assert of_errno(None) is Cause.OWN
