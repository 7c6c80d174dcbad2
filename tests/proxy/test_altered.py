"""A copy is what the original is, but for what it was given."""

from mitmproxy import connection, http
from mitmproxy.connection import ConnectionState
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.proxy.layers.http import RequestHeaders

from egress_policy.proxy.altered import altered
from egress_policy.proxy.record import EgressRecord, keep, record_of


def test_an_open_connection_is_copied_without_its_via() -> None:
    via: ServerSpec = ("http", ("proxy.test", 8080))
    server = connection.Server(address=("origin.test", 80), via=via)
    record = keep(server, EgressRecord(flows=3))
    server.state = ConnectionState.OPEN
    copied = altered(server, via=None, state=ConnectionState.CLOSED)
    assert type(copied) is connection.Server
    assert copied == server
    assert (copied.via, copied.state) == (None, ConnectionState.CLOSED)
    assert (server.via, server.state) == (via, ConnectionState.OPEN)
    assert vars(copied) == {**vars(server), "via": None, "state": ConnectionState.CLOSED}
    assert record_of(copied) is record


def test_an_event_and_a_request_are_copied_without_being_checked() -> None:
    request = http.Request.make("GET", "http://origin.test/")
    event = RequestHeaders(7, request, end_stream=True)
    copied = altered(event, request=altered(request, data=altered(request.data, path=b"/other")))
    assert (copied.stream_id, copied.end_stream, copied.request.path) == (7, True, "/other")
    assert (event.request, request.path) == (request, "/")
