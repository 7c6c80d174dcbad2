"""A finished flow as an event of the live view, made from its metadata."""

import time
from typing import Any, Final, cast, get_args

from mitmproxy import connection, flow, http, tcp, udp

from ..management.live import FlowUse, LiveEvent
from .record import FlowRecord, record_of

_USES: Final = get_args(FlowUse)
_LONGEST: Final = 1000
"""Characters of a text that comes from a client: the live view keeps many."""


def event_of(f: flow.Flow) -> LiveEvent | None:
    """The event, ``None`` for a flow that the policy never decided."""
    record = FlowRecord.from_metadata(f.metadata)
    if record.use not in _USES:
        return None
    return LiveEvent(
        at=time.time(),
        flow_id=f.id,
        client=f.client_conn.peername[0],
        use=cast(FlowUse, record.use),
        proxy=record.proxy or "",
        pool=record.pool or "",
        strategy=record.strategy or "",
        attempt=record.attempt,
        tried=record.tried or "",
        fault=record.fault or "",
        rule=record.rule or "",
        unmatched=record.rule == "default",
        family=record.family or "",
        address=record.address or "",
        hop_port=record.port,
        peer_family=record.peer_family or "",
        exit=record.exit or "",
        planned=record.planned or "",
        reused=record.reused,
        dns_ms=record.dns_ms,
        connect_ms=record.connect_ms,
        handshake_ms=record.handshake_ms,
        code=record.code or "",
        reason=record.reason or "",
        cut=record.cut or "",
        **_request(f),
    )


def _request(f: flow.Flow) -> dict[str, Any]:
    if isinstance(f, http.HTTPFlow):
        request, response = f.request, f.response
        return {
            "kind": "websocket" if f.websocket else "http",
            "method": _short(request.method),
            "scheme": request.scheme,
            "host": _short(request.host),
            "port": request.port,
            "path": _short(request.path),
            "status": response.status_code if response else None,
            **_times(f),
            "sent": _size(request),
            "received": _size(response) if response and not f.error else None,
        }
    address = f.server_conn.address or ("", 0)
    return {"kind": f.type, "host": _short(address[0]), "port": address[1], **_carried(f)}


def _times(f: http.HTTPFlow) -> dict[str, float]:
    """By the clock of mitmproxy, which may be set meanwhile: no time is below 0. An answer that
    was cut ends now."""
    request, response = f.request, f.response
    if response is None:
        return {}
    asked = max(request.timestamp_end or request.timestamp_start, _ready(f.server_conn))
    ended = response.timestamp_end or (time.time() if f.error else response.timestamp_start)
    return {
        "first_byte_ms": _ms(response.timestamp_start - asked),
        "answer_ms": _ms(ended - response.timestamp_start),
        "duration_ms": _ms(ended - request.timestamp_start),
    }


def _ready(server: connection.Server) -> float:
    """When a connection could take a request, 0 if that is not known."""
    if server.timestamp_tls_setup:
        return server.timestamp_tls_setup
    record = record_of(server)
    if record is None or record.ready is None:
        return 0.0
    return time.time() - (time.monotonic() - record.ready)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _size(message: http.Message) -> int | None:
    """The bytes of a body; of one that was passed on as it came, what its head said."""
    if message.raw_content is not None:
        return len(message.raw_content)
    said = message.headers.get("content-length", "")
    return int(said) if said.isdecimal() and len(said) < 16 else None


def _carried(f: flow.Flow) -> dict[str, Any]:
    if not isinstance(f, tcp.TCPFlow | udp.UDPFlow):
        return {}
    began, now = f.timestamp_created, time.time()
    sent = sum(len(one.content) for one in f.messages if one.from_client)
    whole = sum(len(one.content) for one in f.messages)
    return {"sent": sent, "received": whole - sent, "duration_ms": _ms(now - began)}


def _ms(seconds: float) -> float:
    return max(0.0, round(seconds * 1000, 1))
