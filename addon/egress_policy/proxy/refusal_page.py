"""The refusal as a page, for a person whose browser asked for one.

The browser shows the page in the place of the site, with the rights of that site. So every text in
it is escaped, it has no script, no link and no form, and its Content-Security-Policy allows its own
style alone.
"""

import base64
import hashlib
import html
import shlex
from typing import Final

from mitmproxy import http

from ..errors import Code
from ..model.decision import Refusal
from ..model.host import url_host
from ..model.text import printable

_STYLE: Final = (
    ":root{color-scheme:light dark;background:Canvas;color:CanvasText}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:10vh auto;padding:0 1rem}"
    "h1{font-size:1.4rem}dt{font-weight:600}dd{margin:0 0 .6rem;overflow-wrap:anywhere}"
    "code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}"
)
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_ADVICE: Final = {
    Code.FAMILY_UNAVAILABLE: "The policy asks for an address of one IP family, and there is none. "
    "Look at the DNS records of the host that is named above, or change the family of the proxy or "
    "rule.",
    Code.UNREACHABLE: "Find out whether the proxy runs and can be reached, or let the rule use "
    "another one.",
    Code.ASSIGNED_UNAVAILABLE: "Make what the rule uses available again, or let the rule use "
    "something else.",
    Code.REFUSED: "If you need this site, ask the person who keeps the policy to allow it.",
    Code.INTERNAL: "The log of mitmproxy says more.",
}
_DOCUMENTS: Final = ("document", "iframe", "frame")
_JSON: Final = ("application/problem+json", "application/json")


def wants_page(request: http.Request) -> bool:
    """Whether a browser asks for a document: ``Accept`` names HTML, and JSON no more than that."""
    headers = request.headers
    if headers.get("sec-fetch-dest", "document") not in _DOCUMENTS:
        return False  # a script of the page asks
    accepted = _accepted(headers.get("accept", ""))
    return accepted.get("text/html", 0.0) > max(accepted.get(kind, 0.0) for kind in _JSON)


def refusal_page(refusal: Refusal, flow_id: str, request: http.Request) -> bytes:
    """Say what was refused, why, by which rule, and what to do."""
    asked = f"{request.scheme}://{url_host(request.host)}:{request.port}/"
    command = f"egress-policy explain {shlex.quote(asked)}"  # a host may be anything
    facts = {
        "Reason": refusal.detail,
        "Code": f"{refusal.code.value}, {refusal.reason.value}",
        "Rule": refusal.rule,
        "Egress": refusal.proxy,
        "What to do": _ADVICE[refusal.code],
    }
    rows = "".join(
        f"<dt>{name}</dt><dd>{_text(value)}</dd>\n" for name, value in facts.items() if value
    )
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Refused by the egress policy</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>The egress policy refused this request</h1>
<p>mitmproxy did not send it to <code>{_text(request.host)}</code>.</p>
<dl>
{rows}</dl>
<p>To see which rule decides, and why:<br><code>{_text(command)}</code></p>
<p><small>Flow <code>{_text(flow_id)}</code></small></p>
</main>
</body>
</html>
"""
    return page.encode("utf-8", "replace")


def _text(value: str) -> str:
    return html.escape(printable(value))


def _accepted(accept: str) -> dict[str, float]:
    """The media types of an ``Accept`` header with their weights (RFC 9110 section 12.5.1)."""
    found = {}
    for one in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in one.split(";"))
        weights = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
        found[kind] = _weight(weights[0]) if weights else 1.0
    return found


def _weight(text: str) -> float:
    """0 for what is no weight: then nobody gets a page who did not clearly ask for one."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
