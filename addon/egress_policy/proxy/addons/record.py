"""Writes what became of a flow into its metadata and comment, and turns a proxy's 407 into a
refusal."""

from typing import Final

from mitmproxy import connection, dns, flow, http, tcp, udp
from mitmproxy.flow import Error

from ...management.management import Management
from ...management.one_line import Cut, one_line
from ...model.decision import Refusal
from ...policy.hop import LEFT, declined
from ..live import event_of
from ..questions import report_answer
from ..record import record_of, write_cut, write_refusal, write_stream, write_whole
from ..refusal import problem_response, refusal_of
from ..refusal_log import note_refusal
from .named import Named

_RESET: Final = "stream reset by client"
"""Begins what mitmproxy says of a stream whose client has ended it."""


class _OtherBody:
    """Sends ``body`` in place of the body that comes, which may have any size."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __call__(self, data: bytes) -> tuple[bytes, ...]:
        return () if data else (self.body,)


class EgressRecorder(Named):
    """Writes the record of each flow and publishes it in the live view."""

    def __init__(self, management: Management) -> None:
        self.management = management

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if refusal := _judged(flow):
            write_refusal(flow, refusal)
            note_refusal(refusal, None if flow.is_replay else flow.client_conn)
            flow.response = problem_response(refusal, flow.id, flow.request)
            flow.response.stream = _OtherBody(flow.response.raw_content or b"")

    def response(self, flow: http.HTTPFlow) -> None:
        if flow.response and isinstance(flow.response.stream, _OtherBody):
            flow.response.raw_content = flow.response.stream.body
            flow.response.stream = False
        if flow.websocket is None:
            write_whole(flow)
        self._publish(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        record = record_of(flow.server_conn)
        if record and record.route and record.opened:  # the client did not wait for the answer
            opened, record.opened = record.opened, None
            report_answer(record.route, opened, LEFT)
        if flow.response:
            write_cut(flow, _ended_by(flow))
        self._publish(flow)  # mitmproxy fires this or ``response`` for a flow, never both

    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        self._publish(flow)

    def tcp_start(self, flow: tcp.TCPFlow | udp.UDPFlow) -> None:
        write_stream(flow, flow.server_conn)

    udp_start = tcp_start

    def tcp_end(self, flow: tcp.TCPFlow | udp.UDPFlow | dns.DNSFlow) -> None:
        write_stream(flow, flow.server_conn)
        self._publish(flow)

    tcp_error = udp_end = udp_error = dns_response = dns_error = tcp_end

    def _publish(self, f: flow.Flow) -> None:
        # One that was killed is not live any more, and may have left before that. A flow of a file
        # has no record of its connection.
        if (f.live or record_of(f.server_conn)) and (event := event_of(f)):
            self.management.live.publish(event)
            options = self.management.options
            if options and options.comment and not f.comment:
                f.comment = str(one_line(event, event.hop_port) or "")


def _ended_by(flow: http.HTTPFlow) -> Cut:
    """Who ended a flow in the middle of its answer."""
    said = flow.error.msg if flow.error else ""
    if said == Error.KILLED_MESSAGE:
        return "killed"
    left = not flow.client_conn.state & connection.ConnectionState.CAN_READ
    return "client" if left or said.startswith(_RESET) else "broken"


def _judged(flow: http.HTTPFlow) -> Refusal | None:
    """The refusal for a 407 to a forwarded request: the client's credentials are not its cause."""
    record = record_of(flow.server_conn)
    if not (flow.response and record and record.forwards and record.egress):
        return None
    failure = declined(flow.response.status_code, by_stranger=True)
    if record.route:
        opened, record.opened = record.opened, None
        report_answer(record.route, opened, failure)
    rule = record.choice.rule if record.choice else ""
    return refusal_of(record.egress, failure, rule) if failure else None
