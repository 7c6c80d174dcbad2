"""A flow that is over, as an event of the live view: from what its metadata says."""

import time
from typing import Any, Literal

from mitmproxy import flow, http, tcp, udp

from ..management.live import LiveEvent
from .record import PREFIX


def event_of(f: flow.Flow) -> LiveEvent | None:
    """``None`` for a flow that the policy was never asked about."""
    said = f.metadata.get
    use = said(PREFIX + "use")
    if use is None:
        return None
    rule = said(PREFIX + "rule", "")
    return LiveEvent(
        at=time.time(),
        flow_id=f.id,
        client=f.client_conn.peername[0],
        use=use,
        proxy=said(PREFIX + "proxy", ""),
        pool=said(PREFIX + "pool", ""),
        rule=rule,
        unmatched=rule == "default",
        family=said(PREFIX + "family", ""),
        address=said(PREFIX + "address", ""),
        peer_family=said(PREFIX + "peer_family", ""),
        reused=said(PREFIX + "reused"),
        dns_ms=said(PREFIX + "dns_ms"),
        code=said(PREFIX + "code", ""),
        reason=said(PREFIX + "reason", ""),
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
    return {"kind": _kind(f), "host": address[0], "port": address[1]}


def _kind(f: flow.Flow) -> Literal["tcp", "udp", "dns"]:
    if isinstance(f, tcp.TCPFlow):
        return "tcp"
    return "udp" if isinstance(f, udp.UDPFlow) else "dns"
