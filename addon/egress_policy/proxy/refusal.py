"""A refusal as mitmproxy and its clients see it: an error text from the layers, a 503 at the end.

Layers report a failed connection as a plain string. ``RefusalText`` is such a string that also
carries the structured refusal, so that the answer to the client can give the reason.
"""

import json
import math
from typing import Any, Final

from mitmproxy import http

from ..errors import Reason
from ..log import get_logger
from ..model.decision import Egress, Refusal, Route
from ..policy.hop import HopFailure
from .refusal_page import HEADERS, refusal_page, wants_page

logger = get_logger(__name__)

UNANSWERED = Refusal(
    Reason.ERROR,
    "The egress policy gave no answer; refusing to egress (fail-closed). The log says more.",
)
UNSETTLED = Refusal(
    Reason.DELETED,
    "The policy changed again and again while this flow waited for its connection; "
    "refusing to egress (fail-closed)",
)


_LONGEST_WAIT: Final = 3600
"""Seconds. A proxy may name any time."""
REFUSING: Final = "; refusing to egress"


class RefusalText(str):
    """The error string of a refused connection, with its ``refusal``, and the ``failure`` of the
    hop where that is the cause."""

    __slots__ = ("failure", "refusal")
    refusal: Refusal
    failure: HopFailure | None

    def __new__(cls, refusal: Refusal, failure: HopFailure | None = None) -> "RefusalText":
        text = super().__new__(cls, refusal.detail)
        text.refusal, text.failure = refusal, failure
        return text


def refusal_of(egress: Egress, failure: HopFailure, rule: str = "") -> Refusal:
    """The refusal of a request whose proxy failed."""
    host = egress.proxy.host if egress.proxy else ""
    return failure.refusal_of(egress, host, rule, REFUSING)


def refused(route: Route, failure: HopFailure) -> RefusalText:
    """The error of a connection whose hop failed."""
    return RefusalText(failure.refusal(route, REFUSING), failure)


def problem_response(
    refusal: Refusal, flow_id: str, request: http.Request | None = None
) -> http.Response:
    """The 503 of a refused flow: RFC 9457 problem details, RFC 9209 ``proxy-status``. A browser
    whose ``request`` asks for a page gets one in the place of the details."""
    error = refusal.reason.proxy_status
    headers = {
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "x-egress-error": refusal.code.value,
        "proxy-status": f'egress-policy; error={error}; details="{refusal.reason.value}"',
    }
    if refusal.retry_after is not None:
        headers["retry-after"] = str(min(max(1, math.ceil(refusal.retry_after)), _LONGEST_WAIT))
    if request and (page := _page(refusal, flow_id, request)):
        return http.Response.make(503, page, headers | HEADERS)
    return http.Response.make(503, _problem(refusal, flow_id), headers)


def _problem(refusal: Refusal, flow_id: str) -> str:
    body: dict[str, Any] = {
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
    if refusal.tried:
        body["tried"] = [
            {"proxy": one.proxy, "reason": one.reason.value, "fault": one.fault, "ms": one.ms}
            for one in refusal.tried
        ]
    return json.dumps(body) + "\n"


def _page(refusal: Refusal, flow_id: str, request: http.Request) -> bytes | None:
    """The page, where one is asked for and can be made. The refusal itself must always be sent."""
    try:
        return refusal_page(refusal, flow_id, request) if wants_page(request) else None
    except Exception:
        logger.exception("Egress: the page of a refusal cannot be made")
        return None
