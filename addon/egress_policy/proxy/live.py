"""A finished flow as an event of the live view, made from its metadata."""

import time
from typing import Any, Final, cast, get_args

from mitmproxy import flow, http

from ..management.live import FlowUse, LiveEvent
from .record import FlowRecord

_USES: Final = get_args(FlowUse)


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
        peer_family=record.peer_family or "",
        reused=record.reused,
        dns_ms=record.dns_ms,
        code=record.code or "",
        reason=record.reason or "",
        **_request(f),
    )


def _request(f: flow.Flow) -> dict[str, Any]:
    if isinstance(f, http.HTTPFlow):
        return {
            "kind": "websocket" if f.websocket else "http",
            "method": f.request.method,
            "scheme": f.request.scheme,
            "host": f.request.host,
            "port": f.request.port,
            "status": f.response.status_code if f.response else None,
        }
    address = f.server_conn.address or ("", 0)
    return {"kind": f.type, "host": address[0], "port": address[1]}
