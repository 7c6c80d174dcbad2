"""The 503: its headers and body keys are a contract, and they tell no secret."""

import json

import pytest
from mitmproxy import http

from egress_policy.errors import Code, Reason
from egress_policy.model.decision import Refusal
from egress_policy.proxy import refusal as refusals
from egress_policy.proxy.refusal import UNANSWERED, RefusalText, problem_response

RFC_9209_ERRORS = {
    *("dns_timeout", "dns_error", "destination_not_found", "destination_unavailable"),
    *("destination_ip_prohibited", "destination_ip_unroutable", "connection_refused"),
    *("connection_terminated", "connection_timeout", "connection_limit_reached"),
    *("tls_protocol_error", "http_request_error", "http_request_denied", "http_protocol_error"),
    *("proxy_loop_detected", "proxy_internal_response"),
    *("proxy_internal_error", "proxy_configuration_error"),
}


def test_is_a_503_with_problem_details() -> None:
    refusal = Refusal(
        Reason.NO_RECORD, 'no "AAAA"\r\nrecord', "exit", "ipv6", "proxy.example.com", "#3"
    )
    response = problem_response(refusal, "flow-1")
    assert response.status_code == 503
    assert dict(response.headers) == {
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "x-egress-error": "PROXY_FAMILY_UNAVAILABLE",
        "proxy-status": 'egress-policy; error=dns_error; details="no_record"',
        "content-length": str(len(response.content or b"")),
    }
    assert json.loads(response.content or b"") == {
        "type": "urn:mitmproxy-egress-policy:no_record",
        "title": "The egress policy refused this request",
        "status": 503,
        "code": "PROXY_FAMILY_UNAVAILABLE",
        "reason": "no_record",
        "detail": 'no "AAAA"\r\nrecord',
        "proxy": "exit",
        "family": "ipv6",
        "host": "proxy.example.com",
        "rule": "#3",
        "flow_id": "flow-1",
    }


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_code_and_a_proxy_status(reason: Reason) -> None:
    headers = problem_response(Refusal(reason, "why"), "1").headers
    name, error, details = headers["proxy-status"].split("; ")
    assert name == "egress-policy"
    assert error.removeprefix("error=") in RFC_9209_ERRORS
    assert details == f'details="{reason.value}"'
    assert Code(headers["x-egress-error"]) is reason.code


def test_text_of_a_failed_connection_carries_the_refusal() -> None:
    refusal = Refusal(Reason.PROXY_AUTH, "Proxy exit wants other credentials")
    text = RefusalText(refusal)
    assert text == "Proxy exit wants other credentials"
    assert text.refusal is refusal


def test_no_answer_is_a_refusal_too() -> None:
    assert UNANSWERED.code is Code.INTERNAL


def test_refusal_is_sent_where_its_page_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no page")

    monkeypatch.setattr(refusals, "refusal_page", fail)
    request = http.Request.make("GET", "http://origin.test/")
    request.headers["accept"] = "text/html"
    answer = problem_response(Refusal(Reason.RULE, "why"), "1", request)
    assert (answer.status_code, answer.json()["reason"]) == (503, "rule")
