"""A flow that is over, as an event of the live view: from what its metadata says."""

import time
from typing import Any, Final, Literal, get_args

from mitmproxy import flow, http, tcp, udp

from ..management.live import FlowUse, LiveEvent
from .record import values_of

_USES: Final = get_args(FlowUse)


def event_of(f: flow.Flow) -> LiveEvent | None:
    """``None`` for a flow that the policy was never asked about."""
    values = values_of(f)
    if values.get("use") not in _USES:
        return None
    values.pop("dns_ttl", None)
    return LiveEvent(
        at=time.time(),
        flow_id=f.id,
        client=f.client_conn.peername[0],
        unmatched=values.get("rule") == "default",
        **values,
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
