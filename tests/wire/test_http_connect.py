"""The CONNECT handshake: the request, and every answer that a proxy may give."""

import base64
import contextlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.wire.http_connect import (
    ConnectError,
    ConnectHandshake,
    basic_credentials,
    connect_request,
    proxy_error,
    retry_after,
)
from egress_policy.wire.redact import Redactor
from tests.helpers.pieces import pieces

TARGET = ("origin.test", 443)
NOBODY = Redactor("", "")


def feed(answer: bytes, cuts: list[int] | None = None, limit: int = 65536) -> ConnectHandshake:
    """A handshake that got `answer` cut at the given places; what follows its end joins `rest`."""
    handshake = ConnectHandshake(*TARGET, NOBODY, limit)
    for piece in pieces(answer, cuts or []):
        if handshake.done:
            handshake.rest += piece
        else:
            handshake.receive(piece)
    return handshake


def outcome(answer: bytes, cuts: list[int], limit: int = 65536) -> object:
    try:
        handshake = feed(answer, cuts, limit)
        handshake.ended()
    except ConnectError as error:
        return str(error), error.status, error.retry_after, error.error
    return handshake.done, handshake.status, handshake.reason, handshake.rest


@pytest.mark.parametrize(
    ("answer", "status", "reason", "rest"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", 200, "Connection established", b""),
        (b"HTTP/1.0 200 OK\r\nVia: 1.1 x\r\n\r\nSSH-2.0-x", 200, "OK", b"SSH-2.0-x"),
        (b"HTTP/1.1  200  OK\r\n\r\n", 200, "OK", b""),
        (b"HTTP/1.0   200\r\n\r\n", 200, "", b""),
        (b"HTTP/1.1 200\r\n\r\n", 200, "", b""),
        (b"HTTP/1.1 200 \r\n\r\n", 200, "", b""),
        (b"HTTP/1.1 200 OK\n\nrest", 200, "OK", b"rest"),
        (b"HTTP/1.1 204 No Content\r\n\r\n\r\n\r\n", 204, "No Content", b"\r\n\r\n"),
        (b"HTTP/1.1 299 Odd\r\n\r\n", 299, "Odd", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcdef", 200, "OK", b"abcdef"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nContent-Length: 5\r\n\r\n", 200, "OK", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 200, "OK", b"0\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n.", 200, "OK", b"."),
        (b"HTTP/1.1 103 Hint\r\nA: b\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\n\r\n", 200, "OK", b""),
    ],
)
def test_tunnel_is_open(answer: bytes, status: int, reason: str, rest: bytes) -> None:
    handshake = feed(answer)
    assert handshake.done
    assert (handshake.status, handshake.reason, handshake.rest) == (status, reason, rest)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n", 407, "407 Proxy Authentication Req"),
        (
            b"HTTP/1.1 403 Forbidden\r\n",
            403,
            "^asked for origin.test port 443, the proxy answered CONNECT with 403 Forbidden$",
        ),
        (b"HTTP/1.1 502\r\n\r\n", 502, "the proxy answered CONNECT with 502$"),
        (b"HTTP/1.1 302 Found\r\n", 302, "302 Found"),
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101, "101 Switching"),
        (b"HTTP/1.1 999 X\r\n", 999, "999 X"),
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 403 No\r\n", 403, "403 No"),
        (
            b"HTTP/1.1 400 a\x00b\x1b[31mc\x7f\xff\r\n",
            400,
            "400 a\ufffdb\ufffd\\[31mc\ufffd\ufffd$",
        ),
        (b"HTTP/1.1 400 a\rb\r\n", 400, "400 a\ufffdb$"),
    ],
)
def test_any_other_answer_is_an_error_with_its_status(
    answer: bytes, status: int, text: str
) -> None:
    with pytest.raises(ConnectError, match=text) as error:
        feed(answer)
    assert error.value.status == status
    assert error.value.retry_after is None
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Denied", "Denied"),
        ("no s3cret here", "no *** here"),
        ("no dTpzM2NyZXQ=", "no ***"),
        ("no http://u:s%33cre%74@proxy.test", "no ***"),
        # Half of it would be found by nobody: nothing is cut before it is redacted.
        ("x" * 189 + " dTpzM2NyZXQ= x", "x" * 189 + " *** x"),
    ],
)
def test_words_of_the_proxy_do_not_repeat_the_credentials(reason: str, told: str) -> None:
    handshake = ConnectHandshake(*TARGET, Redactor("u", "s3cret"))
    with pytest.raises(ConnectError) as caught:
        handshake.receive(f"HTTP/1.1 403 {reason}\r\n".encode())
    answered = "asked for origin.test port 443, the proxy answered CONNECT with 403"
    assert str(caught.value) == f"{answered} {told}"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_fields_of_a_failure_are_read_to_the_end_of_the_head(status: int) -> None:
    head = (
        f"HTTP/1.1 {status} No\r\nA: b\r\nretry-AFTER: \t120 \r\n"
        'Proxy-Status: a.test; details="x; error=dns_error, y" ; error=connection_refused\r\n\r\n'
    ).encode()
    for end in range(len(head) - 1):
        assert feed(head[:end]).done is False
    with pytest.raises(ConnectError, match=f"answered CONNECT with {status} No$") as error:
        feed(head + b"<html>")
    declined = error.value
    assert (declined.status, declined.retry_after) == (status, 120.0)
    assert declined.error == "connection_refused"


def test_the_end_of_the_connection_inside_a_head_keeps_what_was_said() -> None:
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n"
    for end in range(len(head) + 1):
        handshake = feed(head[:end])
        if end < len(b"HTTP/1.1 503 Busy\r\n"):
            handshake.ended()
            continue
        with pytest.raises(ConnectError, match=r"answered CONNECT with 503 Busy$") as error:
            handshake.ended()
        assert error.value.retry_after == (7.0 if end == len(head) else None)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n"])
def test_the_end_of_the_connection_says_nothing_more_elsewhere(begun: bytes) -> None:
    feed(begun).ended()


def test_a_failure_whose_head_is_too_long_keeps_its_status() -> None:
    with pytest.raises(ConnectError, match=r"answered CONNECT with 503$") as error:
        feed(b"HTTP/1.1 503\r\nRetry-After: 9\r\nX: " + b"x" * 65536)
    assert (error.value.status, error.value.retry_after) == (503, 9.0)


NOW = 784111777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0.0),
        *((value, None) for value in ("", "-1", "1.5", "+5", "soon", "\u0663", "1" * 11)),
        *((value, None) for value in ("Sun, 06 Nov 1994 99:99:99 GMT", "0 Jan 0", "1 2 3 4 5")),
    ],
)
def test_retry_after_has_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_a_date_is_read_by_the_clock() -> None:
    handshake = ConnectHandshake(*TARGET, NOBODY, clock=lambda: NOW)
    with pytest.raises(ConnectError) as error:
        handshake.receive(
            b"HTTP/1.1 429 Slow\r\nRetry-After: Sun, 06 Nov 1994 08:50:07 GMT\r\n"
            b"Retry-After: 5\r\n\r\n"
        )
    assert error.value.retry_after == 30.0


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("a.test; error=dns_error", "dns_error"),
        ("a; error=dns_error; details=x, b; error=connection_refused", "connection_refused"),
        ("a; error=dns_error, b", "dns_error"),
        ("a ;error=proxy_internal_error ", "proxy_internal_error"),
        ("", ""),
        ("a.test", ""),
        ('a; details="; error=dns_error"', ""),
        ('a; details="\\"; error=dns_error', ""),
        ('a; details="; error=dns_error', ""),
        ("a; myerror=dns_error", ""),
        ('a; error="dns_error"', ""),
        ("a; error=DNS", ""),
        ("a; error=" + "x" * 65, ""),
    ],
)
def test_proxy_status_has_an_error_type(value: str, error: str) -> None:
    assert proxy_error(value) == error


@given(st.text(max_size=80), st.floats(0, 4e9))
def test_no_value_of_a_field_raises(value: str, now: float) -> None:
    assert (retry_after(value, now) or 0.0) >= 0.0
    assert len(proxy_error(value)) <= 64


def test_the_target_is_asked_for_at_once() -> None:
    assert feed(b"").asked


def test_endless_reason_phrase_is_cut() -> None:
    with pytest.raises(ConnectError) as error:
        feed(b"HTTP/1.1 500 " + b"x" * 9000 + b"\r\n\r\n")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "answer",
    [
        b"\x15\x03\x01\x00\x02\x02F",
        b"SSH-2.0-OpenSSH",
        b"HTTP/2 200 OK",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 099 OK\r\n",
        b"HTTP/1.1 200OK\r\n",
        b"HTTP/1.x 200 OK\r\n",
    ],
)
def test_answer_that_is_not_http_fails_at_once(answer: bytes) -> None:
    with pytest.raises(ConnectError, match="did not answer CONNECT with") as error:
        feed(answer)
    assert error.value.status == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"\x05\xff", "did not answer CONNECT with HTTP/1: this looks like a SOCKS proxy"),
        (b"\x15\x03\x01\x00\x02\x02F", "HTTP/1: this looks like a proxy behind TLS"),
        (b"\x00\x5b\x00", "HTTP/1: this looks like a SOCKS4 proxy, which is not supported$"),
        (b"\x15HTTP", "did not answer CONNECT with HTTP/1$"),
        (b"HTTP/2 200 OK", "did not answer CONNECT with HTTP/1$"),
    ],
)
def test_a_proxy_of_another_type_is_recognised(answer: bytes, told: str) -> None:
    with pytest.raises(ConnectError, match=told):
        feed(answer)


@pytest.mark.parametrize("size", [16, 65536])
def test_limit_counts_all_heads_together_but_not_the_tunnel(size: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nX: \r\n\r\n"
    padded = head.replace(b"X: ", b"X: ".ljust(65536 - len(head) + 3, b"x"))
    assert len(padded) == 65536
    assert feed(padded + b"y" * 100_000, [size]).rest == b"y" * 100_000
    for long in (padded.replace(b"X: ", b"X: x"), b"HTTP/1.1 200 OK\r\n" + b"x" * 65536):
        with pytest.raises(ConnectError, match="too long"):
            feed(long, [size])
    with pytest.raises(ConnectError, match="too long"):
        feed(b"HTTP/1.1 102 Processing\r\n\r\n" * 3000, [size])


def test_bytes_after_the_end_belong_to_the_tunnel() -> None:
    handshake = feed(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(RuntimeError):
        handshake.receive(b"x")


heads = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 200 OK\r\nA: b\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\n\r\n",
        b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n",
        b"HTTP/1.1 503 No\r\nRetry-After: 5\r\nProxy-Status: a; error=dns_error\r\n",
        b"HTTP/1.1  200  OK\r\n\r\n",
        b"\x15\x03",
        b"\x15",
        b"\x00[",
        b"\x05",
        b"HTTP/1.1 2",
    ]
)
garbage = st.one_of(
    st.binary(max_size=300), st.text("\r\n :aHTP/1.20", max_size=80).map(str.encode)
)


@given(heads, garbage, st.lists(st.integers(0, 400), max_size=12), st.sampled_from([40, 65536]))
def test_any_split_gives_the_same_result(
    head: bytes, tail: bytes, cuts: list[int], limit: int
) -> None:
    answer = head + tail
    whole = outcome(answer, [], limit)
    assert whole == outcome(answer, cuts, limit) == outcome(answer, list(range(400)), limit)


@given(garbage, st.integers(1, 64))
def test_garbage_never_raises_anything_else_nor_is_hoarded(data: bytes, limit: int) -> None:
    handshake = ConnectHandshake(*TARGET, NOBODY, limit)
    with contextlib.suppress(ConnectError):
        for number in range(len(data)):
            handshake.receive(data[number : number + 1])
            if handshake.done:
                break
            assert len(handshake._buffer) <= limit


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("a.example", b"a.example:443"),
        ("192.0.2.1", b"192.0.2.1:443"),
        ("2001:db8::1", b"[2001:db8::1]:443"),
        ("under_score.example", b"under_score.example:443"),
    ],
)
def test_request_names_the_target_twice(host: str, authority: bytes) -> None:
    expected = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (authority, authority)
    assert connect_request(host, 443) == expected


def test_request_carries_credentials_and_extra_headers() -> None:
    request = connect_request("a.example", 8443, "Aladdin", "open sesame", [("User-Agent", "x/1")])
    assert request == (
        b"CONNECT a.example:8443 HTTP/1.1\r\nHost: a.example:8443\r\n"
        b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\nUser-Agent: x/1\r\n\r\n"
    )


def test_credentials_are_utf8_as_in_rfc_7617() -> None:
    assert basic_credentials("test", "123£") == "Basic dGVzdDoxMjPCow=="
    assert basic_credentials("token", "") == "Basic dG9rZW46"
    assert basic_credentials("", "a:b") == "Basic " + base64.b64encode(b":a:b").decode()


@pytest.mark.parametrize(
    ("username", "password"),
    [("a:b", "c"), ("a\r\nX: y", "b"), ("a", "b\0"), ("a", "b\n"), ("a\x7f", ""), ("a", "\udc80")],
)
def test_credentials_that_basic_cannot_carry_are_refused_unquoted(
    username: str, password: str
) -> None:
    with pytest.raises(ConnectError) as error:
        connect_request("a.example", 443, "secret" + username, "secret" + password)
    assert "secret" not in str(error.value)
    assert error.value.__context__ is None or error.value.__suppress_context__


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 443),
        ("a\r\nb", 443),
        ("a\n", 443),
        ("a\0", 443),
        ("a b", 443),
        ("a/b", 443),
        ("u@a", 443),
        ("a:1", 443),
        ("[::1]", 443),
        ("bücher.example", 443),
        ("fe80::1%eth0", 443),
        ("a.example", 0),
        ("a.example", 65536),
    ],
)
def test_target_that_a_request_cannot_carry_is_refused(host: str, port: int) -> None:
    with pytest.raises(ConnectError):
        connect_request(host, port)


@pytest.mark.parametrize(
    "header",
    [("X\r\nY", "z"), ("X", "y\r\nZ: a"), ("X", "y\0"), ("X Y", "z"), ("", "z"), ("X", "ü")],
)
def test_header_that_a_request_cannot_carry_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ConnectError):
        connect_request("a.example", 443, extra_headers=[header])


@given(st.text(), st.integers(-5, 70000), st.text(max_size=9), st.text(max_size=9), st.text())
def test_h11_reads_every_request(
    host: str, port: int, username: str, password: str, value: str
) -> None:
    try:
        request = connect_request(host, port, username, password, [("X-A", value)])
    except ConnectError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(request)
    event = server.next_event()
    assert isinstance(event, h11.Request)
    names = [name for name, _ in event.headers]
    assert set(names) <= {b"host", b"proxy-authorization", b"x-a"}
    assert len(names) == 2 + bool(username or password)
    assert isinstance(server.next_event(), h11.EndOfMessage)
