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
    except ConnectError as error:
        return str(error), error.status
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
        (b"HTTP/1.1 502\r\n", 502, "the proxy answered CONNECT with 502$"),
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
    assert error.value.auth is (status == 407)
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


def test_endless_reason_phrase_is_cut() -> None:
    with pytest.raises(ConnectError) as error:
        feed(b"HTTP/1.1 500 " + b"x" * 9000 + b"\r\n")
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
