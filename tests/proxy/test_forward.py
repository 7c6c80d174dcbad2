"""Forwarded requests: absolute form and credentials on the wire only, not in the flow."""

import base64

import pytest
from mitmproxy import connection, http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import (
    ReceiveHttp,
    RequestData,
    RequestHeaders,
    ResponseProtocolError,
)

from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.proxy.forward import ForwardRequests, absolute_form, forwards
from tests.helpers.playbook import Dialogue, Recorder, make_context

OPEN = Proxy(name="exit", host="proxy.example.com")
LOCKED = Proxy(name="exit", host="proxy.example.com", username="älice", password="s3cret:p@ss")


def request(url: str = "http://origin.test:8080/path?q", **headers: str) -> http.Request:
    made = http.Request.make("GET", url)
    made.headers = http.Headers(
        [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    )
    made.authority = ""  # a regular proxy's client: mitmproxy has taken it out
    return made


def line(sent: http.Request) -> bytes:
    head: bytes = http1.assemble_request_head(sent)
    return head.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("origin.test", 80, b"http://origin.test/p"),
        ("origin.test", 8080, b"http://origin.test:8080/p"),
        ("192.0.2.7", 8080, b"http://192.0.2.7:8080/p"),
        ("2001:db8::1", 80, b"http://[2001:db8::1]/p"),
        ("2001:db8::1", 8080, b"http://[2001:db8::1]:8080/p"),
        ("bücher.example", 80, b"http://xn--bcher-kva.example/p"),
        ("a" * 60, 8080, b"http://" + b"a" * 60 + b":8080/p"),
    ],
)
def test_names_the_target_in_absolute_form(host: str, port: int, expected: bytes) -> None:
    asked = request("http://unused.test/p")
    asked.data.host, asked.data.port = host, port
    assert line(absolute_form(asked, OPEN)) == b"GET " + expected + b" HTTP/1.1"


def test_names_the_real_target_in_the_host_header_too() -> None:
    asked = request(Host="elsewhere.test", X="1")
    asked.headers.add("host", "elsewhere-too.test")
    sent = absolute_form(asked, OPEN)
    assert line(sent) == b"GET http://origin.test:8080/path?q HTTP/1.1"
    assert sent.headers.get_all("host") == ["origin.test:8080"]
    assert asked.headers.get_all("host") == ["elsewhere.test", "elsewhere-too.test"]


def test_asks_about_the_origin_as_a_whole_without_a_path() -> None:
    asked = request("http://origin.test/")
    asked.method, asked.path = "OPTIONS", "*"
    assert line(absolute_form(asked, OPEN)) == b"OPTIONS http://origin.test HTTP/1.1"


def test_replaces_the_clients_proxy_headers_with_the_proxys_own_credentials() -> None:
    asked = request(Proxy_Authorization="Basic Y2xpZW50", Proxy_Connection="keep-alive", X="1")
    without, with_them = absolute_form(asked, OPEN), absolute_form(asked, LOCKED)
    assert "proxy-authorization" not in without.headers
    assert "proxy-connection" not in without.headers
    kind, _, pair = with_them.headers["proxy-authorization"].partition(" ")
    assert (kind, base64.b64decode(pair).decode()) == ("Basic", "älice:s3cret:p@ss")
    assert with_them.headers["x"] == "1"


def test_leaves_the_flows_own_request_as_it_was() -> None:
    ctx = make_context()
    ctx.server = connection.Server(address=("origin.test", 8080))
    subject = ForwardRequests(ctx, Egress(LOCKED))
    subject.child_layer = below = Recorder(ctx)
    asked = request(Proxy_Authorization="Basic Y2xpZW50")
    before = asked.copy().get_state()
    dialogue = Dialogue(subject).start()
    dialogue.say(RequestHeaders(1, asked, end_stream=False)).say(RequestData(1, b"body"))
    assert asked.get_state() == before
    (head,) = below.of(RequestHeaders)
    assert line(head.request).startswith(b"GET http://origin.test:8080/")
    assert (head.stream_id, head.end_stream) == (1, False)
    assert [event.data for event in below.of(RequestData)] == [b"body"]


@pytest.mark.parametrize(
    ("headers", "version", "expected"),
    [
        ({}, "HTTP/1.1", False),
        ({}, "HTTP/1.0", False),
        ({"Upgrade": "websocket"}, "HTTP/1.1", True),
        ({"Upgrade": "h2c"}, "HTTP/1.1", False),
        ({}, "HTTP/2.0", True),
    ],
)
def test_what_does_not_survive_an_http_hop_wants_a_tunnel(
    headers: dict[str, str], version: str, expected: bool
) -> None:
    asked = request(**headers)
    asked.http_version = version
    assert forwards(asked, Egress(OPEN)) is not expected


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("Under_score.a-b.Test.", b"/p", False),
        ("b\xfccher.example", b"/p", False),
        ("192.0.2.7", b"/p", False),
        ("2001:db8::1", b"/p", False),
        ("origin.test", b"*", False),
        ("fe80::1%eth0", b"/p", True),
        *(("origin.test", path, True) for path in (b"", b"p", b"@a/p", b":81/p", b"*.a/p")),
    ],
)
def test_what_would_read_differently_in_a_url_wants_a_tunnel(
    host: str, path: bytes, expected: bool
) -> None:
    asked = request()
    asked.data.host, asked.data.path = host, path
    assert forwards(asked, Egress(OPEN)) is not expected


@pytest.mark.parametrize("method", ["TRACE", "trace"])
def test_what_would_be_answered_with_the_credentials_wants_a_tunnel(method: str) -> None:
    asked = request()
    asked.method = method
    assert not forwards(asked, Egress(OPEN))


def test_nothing_that_follows_a_refused_answer_is_taken_for_one() -> None:
    ctx = make_context()
    subject = ForwardRequests(ctx, Egress(LOCKED))
    subject.child_layer = child = Recorder(ctx)
    hop = connection.Server(address=("192.0.2.1", 8080))
    dialogue = Dialogue(subject).start()
    dialogue.say(RequestHeaders(1, request(), end_stream=True))
    dialogue.receive(hop, b"\x05\xff")
    dialogue.expect(commands.CloseConnection)
    assert isinstance(dialogue.expect(ReceiveHttp).event, ResponseProtocolError)
    dialogue.receive(hop, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert child.of(events.DataReceived) == []
