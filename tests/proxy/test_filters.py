"""Filters in three values: the connection decides what it can, the rest needs the request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection, flowfilter, http, tcp
from mitmproxy.test import tflow, tutils

from egress_policy.management.explain import ExplainQuery
from egress_policy.model.decision import Target
from egress_policy.proxy.filters import ConnectionView, FlowFilter, compile_filter, request_for

Verdict = bool | None


def ends() -> tuple[connection.Client, connection.Server]:
    client = tflow.tclient_conn()
    client.peername = ("192.0.2.9", 40000)
    return client, connection.Server(address=("origin.test", 443))


def told(expression: str, flow: object | None) -> Verdict:
    return compile_filter(expression)(Target("origin.test", 443, flow=flow))


def http_flow(method: str = "GET") -> http.HTTPFlow:
    client, server = ends()
    made = tutils.treq(method=method.encode(), host="origin.test", path=b"/upload")
    return tflow.tflow(client_conn=client, server_conn=server, req=made)


TABLE: list[tuple[str, Verdict, bool, bool]] = [
    # expression, by the connection, by a POST, by raw TCP
    ("~src 192.0.2.9", True, True, True),
    ("~src 192.0.2.8", False, False, False),
    ("~dst origin.test:443", True, True, True),
    ("~dst other.test", False, False, False),
    ("~all", True, True, True),
    ("~d origin.test", None, True, False),
    ("~m POST", None, True, False),
    ("~m GET", None, False, False),
    ("~u /upload", None, True, False),
    ("~h content-length", None, True, False),
    ("~tcp", None, False, True),
    ("!~m GET", None, True, True),
    ("! ~src 192.0.2.9", False, False, False),
    ("! ~src 192.0.2.8", True, True, True),
    ("~src 192.0.2.8 & ~m POST", False, False, False),
    ("~m POST & ~src 192.0.2.8", False, False, False),
    ("~src 192.0.2.9 & ~m POST", None, True, False),
    ("~src 192.0.2.9 | ~m POST", True, True, True),
    ("~m GET | ~src 192.0.2.9", True, True, True),
    ("~src 192.0.2.8 | ~m POST", None, True, False),
    ("!(~src 192.0.2.8 & ~m POST)", True, True, True),
    ("!(~src 192.0.2.9 | ~u x)", False, False, False),
    ("~m POST & ~u /upload", None, True, False),
    ("(~m GET | ~dst other) & ~src 192.0.2.8", False, False, False),
]


@pytest.mark.parametrize(("expression", "early", "on_post", "on_tcp"), TABLE)
def test_verdicts(expression: str, early: Verdict, on_post: bool, on_tcp: bool) -> None:
    client, server = ends()
    assert told(expression, ConnectionView(client, server)) is early
    assert told(expression, http_flow("POST")) is on_post
    assert told(expression, tcp.TCPFlow(client, server)) is on_tcp


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("~dst ^origin.test:443$", True), ("~dst elsewhere", False), ("! ~dst :80$", True)],
)
def test_dst_looks_at_the_target_not_at_what_the_flow_came_by(
    expression: str, expected: bool
) -> None:
    client, server = ends()
    server.address = ("Elsewhere.Test.", 80)
    asked_for = http_flow()
    asked_for.server_conn = server
    for seen in (ConnectionView(client, server), asked_for, tcp.TCPFlow(client, server)):
        assert told(expression, seen) is expected


@pytest.mark.parametrize("expression", [row[0] for row in TABLE])
def test_no_filter_decides_without_a_flow(expression: str) -> None:
    assert told(expression, None) is None


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("~src 192.0.2.9", False),
        ("~dst origin & !(~src 10. | ~all )", False),
        ("~m POST", True),
        ("~src 192.0.2.8 & ~m POST", True),
        ("!~u x", True),
        ("origin.test", True),
    ],
)
def test_needs_the_request_unless_the_connection_always_decides(
    expression: str, expected: bool
) -> None:
    assert compile_filter(expression).needs_request is expected


@pytest.mark.parametrize("expression", ["", "  ", "~nonsense x", "~m", "(~m GET", "~u ["])
def test_the_error_for_a_bad_expression_names_the_fault(expression: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        compile_filter(expression)


ATOMS = [flowfilter.parse(row[0]) for row in TABLE[:11]]
FILTERS: st.SearchStrategy[flowfilter.TFilter] = st.recursive(
    st.sampled_from(ATOMS),
    lambda part: st.one_of(
        part.map(lambda one: flowfilter.FNot([one])),
        st.lists(part, min_size=2, max_size=3).map(flowfilter.FAnd),
        st.lists(part, min_size=2, max_size=3).map(flowfilter.FOr),
    ),
)


@given(FILTERS, st.sampled_from(["GET", "POST"]))
def test_an_early_result_still_holds_for_the_whole_request(
    root: flowfilter.TFilter, method: str
) -> None:
    compiled, later = FlowFilter("", root, needs_request=True), http_flow(method)
    view = ConnectionView(later.client_conn, later.server_conn)
    early = compiled(Target("origin.test", 443, flow=view))
    assert early in (None, compiled(Target("origin.test", 443, flow=later)))


def asked(url: str, **query: Any) -> http.HTTPFlow:
    return request_for(ExplainQuery(url=url, **query))


def test_hypothetical_request_looks_like_a_real_one() -> None:
    made = asked("https://Origin.Test:8443/up?a=b#c", method="PUT", client="192.0.2.9")
    request = made.request
    assert (request.method, request.scheme) == ("PUT", "https")
    assert (request.host, request.port, request.path) == ("origin.test", 8443, "/up?a=b")
    assert request.headers["host"] == "origin.test:8443"
    assert request.url == "https://origin.test:8443/up?a=b"
    assert made.client_conn.peername == ("192.0.2.9", 0)
    assert made.server_conn.address == ("origin.test", 8443)


def test_given_headers_win() -> None:
    headers = {"Host": "front.test", "X-Account": "one"}
    made = asked("http://origin.test/", headers=headers)
    assert dict(made.request.headers) == {"host": "front.test", "X-Account": "one"}
    assert made.request.host == "origin.test"


def test_request_for_a_websocket_asks_for_the_upgrade() -> None:
    made = asked("wss://origin.test/chat")
    assert (made.request.scheme, made.request.port) == ("https", 443)
    assert made.request.headers["upgrade"] == "websocket"


def test_request_that_is_asked_about_has_any_path_and_host() -> None:
    request = asked("http://[2001:db8::1]/\xfc").request
    assert (request.host, request.path) == ("2001:db8::1", "/\xfc")
