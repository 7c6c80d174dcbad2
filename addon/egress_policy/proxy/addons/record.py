"""Writes what became of a flow into its metadata, and turns a proxy's 407 into a refusal."""

from mitmproxy import dns, flow, http, tcp, udp

from ...errors import Reason
from ...management.live import LiveFeed
from ...model.decision import Refusal
from ..live import event_of
from ..record import record_of, write_refusal, write_stream
from ..refusal import problem_response
from ..refusal_log import note_refusal
from .named import Named


class _OtherBody:
    """Sends ``body`` instead of the one that comes, which may be of any size or none."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __call__(self, data: bytes) -> tuple[bytes, ...]:
        return () if data else (self.body,)


class EgressRecorder(Named):
    """Flows of every kind carry ``egress.*`` metadata."""

    def __init__(self, live: LiveFeed) -> None:
        self.live = live

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if refusal := _wanted_credentials(flow):
            write_refusal(flow, refusal)
            note_refusal(refusal, None if flow.is_replay else flow.client_conn)
            flow.response = problem_response(refusal, flow.id)
            flow.response.stream = _OtherBody(flow.response.raw_content or b"")

    def response(self, flow: http.HTTPFlow) -> None:
        if flow.response and isinstance(flow.response.stream, _OtherBody):
            flow.response.raw_content = flow.response.stream.body
            flow.response.stream = False
        self._publish(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        if flow.response is None:
            self._publish(flow)

    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        self._publish(flow)

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        write_stream(flow, flow.server_conn)

    def tcp_end(self, flow: tcp.TCPFlow) -> None:
        write_stream(flow, flow.server_conn)
        self._publish(flow)

    def tcp_error(self, flow: tcp.TCPFlow) -> None:
        write_stream(flow, flow.server_conn)
        self._publish(flow)

    def udp_start(self, flow: udp.UDPFlow) -> None:
        write_stream(flow, flow.server_conn)

    def udp_end(self, flow: udp.UDPFlow) -> None:
        write_stream(flow, flow.server_conn)
        self._publish(flow)

    def udp_error(self, flow: udp.UDPFlow) -> None:
        write_stream(flow, flow.server_conn)
        self._publish(flow)

    def dns_response(self, flow: dns.DNSFlow) -> None:
        write_stream(flow, flow.server_conn)
        self._publish(flow)

    def dns_error(self, flow: dns.DNSFlow) -> None:
        write_stream(flow, flow.server_conn)
        self._publish(flow)

    def _publish(self, f: flow.Flow) -> None:
        if f.live and (event := event_of(f)):
            self.live.publish(event)


def _wanted_credentials(flow: http.HTTPFlow) -> Refusal | None:
    """A 407 to a forwarded request: a matter between us and the proxy, not the client's."""
    record = record_of(flow.server_conn)
    if not (flow.live and flow.response and flow.response.status_code == 407):
        return None
    if record is None or not record.forwards or record.egress is None:
        return None
    egress = record.egress
    return Refusal(
        Reason.PROXY_AUTH,
        f"Proxy {egress.name}: it wants other credentials (407); refusing to egress",
        egress.name,
        egress.family,
        egress.proxy.host if egress.proxy else "",
        record.choice.rule if record.choice else "",
    )
