"""A refusal as mitmproxy and its clients see it: an error text on its way up, a 503 at the end.

Layers report a failed connection as a plain string; ``RefusalText`` is such a string that also
carries the structured refusal, so that whoever answers the client can say why.
"""

import json

from mitmproxy import http

from ..errors import Reason
from ..model.decision import Refusal

UNANSWERED = Refusal(
    Reason.ERROR,
    "The egress policy gave no answer; refusing to egress (fail-closed). The log says more.",
)
UNSETTLED = Refusal(
    Reason.DELETED,
    "The policy changed again and again while this flow waited for its connection; "
    "refusing to egress (fail-closed)",
)

# RFC 9209 section 2.3: the proxy error types that come nearest to each reason.
_PROXY_STATUS: dict[Reason, str] = {
    Reason.NO_RECORD: "dns_error",
    Reason.DNS_FAILURE: "dns_error",
    Reason.DNS_TIMEOUT: "dns_timeout",
    Reason.LITERAL_CONTRADICTION: "destination_ip_prohibited",
    Reason.MAPPED_ADDRESS: "destination_ip_prohibited",
    Reason.PEER_MISMATCH: "destination_ip_prohibited",
    Reason.CONNECT_REFUSED: "connection_refused",
    Reason.CONNECT_TIMEOUT: "connection_timeout",
    Reason.RULE: "http_request_denied",
    Reason.DEFAULT: "http_request_denied",
    Reason.UDP_OVER_PROXY: "http_request_denied",
    Reason.LOOP: "proxy_loop_detected",
    Reason.ERROR: "proxy_internal_error",
}
_OTHER_PROXY_STATUS = "destination_unavailable"


class RefusalText(str):
    """The error string of a connection that was refused, with its ``refusal``."""

    __slots__ = ("refusal",)
    refusal: Refusal

    def __new__(cls, refusal: Refusal) -> "RefusalText":
        text = super().__new__(cls, refusal.detail)
        text.refusal = refusal
        return text


def problem_response(refusal: Refusal, flow_id: str) -> http.Response:
    """The 503 of a refused flow: RFC 9457 problem details, RFC 9209 ``proxy-status``."""
    body = {
        "type": f"urn:mitmproxy-egress-policy:{refusal.reason.value}",
        "title": "The egress policy refused this request",
        "status": 503,
        "code": refusal.code.value,
        "reason": refusal.reason.value,
        "detail": refusal.detail,
        "proxy": refusal.proxy,
        "family": refusal.family,
        "host": refusal.host,
        "rule": refusal.rule,
        "flow_id": flow_id,
    }
    error = _PROXY_STATUS.get(refusal.reason, _OTHER_PROXY_STATUS)
    return http.Response.make(
        503,
        json.dumps(body) + "\n",
        {
            "content-type": "application/problem+json",
            "cache-control": "no-store",
            "x-egress-error": refusal.code.value,
            "proxy-status": f'egress-policy; error={error}; details="{refusal.reason.value}"',
        },
    )
