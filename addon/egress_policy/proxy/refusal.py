"""A refusal as mitmproxy and its clients see it: an error text from the layers, a 503 at the end.

Layers report a failed connection as a plain string. ``RefusalText`` is such a string that also
carries the structured refusal, so that the answer to the client can give the reason.
"""

import json

from mitmproxy import http

from ..errors import Reason
from ..model.decision import Egress, Refusal, Route
from ..policy.hop import HopFailure

UNANSWERED = Refusal(
    Reason.ERROR,
    "The egress policy gave no answer; refusing to egress (fail-closed). The log says more.",
)
UNSETTLED = Refusal(
    Reason.DELETED,
    "The policy changed again and again while this flow waited for its connection; "
    "refusing to egress (fail-closed)",
)


class RefusalText(str):
    """The error string of a refused connection, with its ``refusal``."""

    __slots__ = ("refusal",)
    refusal: Refusal

    def __new__(cls, refusal: Refusal) -> "RefusalText":
        text = super().__new__(cls, refusal.detail)
        text.refusal = refusal
        return text


def refusal_of(egress: Egress, failure: HopFailure, rule: str = "") -> Refusal:
    """The refusal of a request whose proxy failed."""
    host = egress.proxy.host if egress.proxy else ""
    return Refusal(failure.reason, _detail(egress, failure), egress.name, egress.family, host, rule)


def refused(route: Route, failure: HopFailure) -> RefusalText:
    """The error of a connection whose hop failed."""
    return RefusalText(route.refusal(failure.reason, _detail(route.egress, failure)))


def _detail(egress: Egress, failure: HopFailure) -> str:
    return f"{failure.of(egress)}; refusing to egress"


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
    error = refusal.reason.proxy_status
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
