"""Keeps the account of a proxy out of what mitmproxy hears over a connection through it.

A proxy that forwards requests speaks inside the connection, and any proxy can do so in a tunnel
without TLS. mitmproxy quotes what it cannot read: to the client, in the log, in the flow. So the
account is taken out of answers before a stream gets them, and out of the log. Bodies stay as they
are.
"""

import dataclasses
from collections.abc import Iterable

from mitmproxy import connection, http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    HttpStream,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)

from ..wire.redact import Redactor
from .record import EgressRecord, record_of
from .refusal import RefusalText


def keep_out_of(stream: HttpStream, server: connection.Server) -> None:
    """Redact the answer that comes over ``server`` before ``stream`` gets it."""
    record = record_of(server)
    redactor = _redactor(record) if record and not server.tls else None
    if redactor is None:
        return
    handle = stream.handle_event

    def handle_redacted(event: events.Event) -> layer.CommandGenerator[None]:
        return handle(redacted(event, redactor))

    stream.handle_event = handle_redacted  # type: ignore[method-assign]


def redacted(event: events.Event, redactor: Redactor) -> events.Event:
    """The event without the account, if it is about an answer. The original is not changed."""
    if isinstance(event, ResponseHeaders):
        response = event.response
        reason, fields = redactor.head(response.data.reason, response.headers.fields)
        if (reason, fields) != (response.data.reason, response.headers.fields):
            response = response.copy()
            response.data.reason, response.headers.fields = reason, fields
            return dataclasses.replace(event, response=response)
    elif isinstance(event, ResponseTrailers):
        return ResponseTrailers(
            event.stream_id, http.Headers(redactor.head(b"", event.trailers.fields)[1])
        )
    elif isinstance(event, ResponseProtocolError) and not isinstance(event.message, RefusalText):
        return ResponseProtocolError(event.stream_id, redactor.text(event.message), event.code)
    return event


def redacted_log(command: commands.Log, records: Iterable[EgressRecord]) -> commands.Log:
    """A log message without the accounts of these connections."""
    text = command.message
    for record in records:
        if redactor := _redactor(record):
            text = redactor.text(text)
    return command if text == command.message else commands.Log(text, command.level)


def _redactor(record: EgressRecord) -> Redactor | None:
    """The redactor for the proxy of a connection, ``None`` where there is no account."""
    proxy = record.egress.proxy if record.egress else None
    if record.redactor is None and proxy:
        username, password = proxy.username, proxy.password.get_secret_value()
        record.redactor = Redactor(username, password) if username or password else None
    return record.redactor
