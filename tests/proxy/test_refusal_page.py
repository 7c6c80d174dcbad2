"""The page of a refusal: for browsers alone, and harmless in the place of any site."""

import base64
import hashlib
import html
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from egress_policy.errors import Reason
from egress_policy.model.decision import Refusal
from egress_policy.model.host import url_host
from egress_policy.proxy.refusal import problem_response
from egress_policy.proxy.refusal_page import refusal_page, wants_page
from tests.helpers.clients import http_get
from tests.helpers.scene import egress

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROME = f"{FIREFOX.replace('*/*;q=0.8', 'image/avif,image/webp,image/apng,*/*;q=0.8')}"


def asking(
    accept: str | None, url: str = "https://site.test/path?q", **headers: str
) -> http.Request:
    request = http.Request.make("GET", url)
    request.headers.update(headers)
    if accept is not None:
        request.headers["accept"] = accept
    return request


@pytest.mark.parametrize(
    ("accept", "dest", "wanted"),
    [
        (FIREFOX, None, True),
        (FIREFOX, "document", True),
        (CHROME, "iframe", True),
        ("TEXT/HTML; charset=utf-8", None, True),
        ("application/json;q=0.1, text/html", None, True),
        (FIREFOX, "empty", False),
        (FIREFOX, "image", False),
        (None, None, False),
        ("", None, False),
        ("*/*", None, False),
        ("text/*", None, False),
        ("*/*", "document", False),
        ("application/json, text/plain, */*", None, False),
        ("application/json, text/html", None, False),
        ("application/problem+json, text/html;q=0.9", None, False),
        ("text/html;q=0", None, False),
        ("text/html;q=much", None, False),
        ("text/html;q=nan", None, False),
    ],
)
def test_page_is_for_who_asks_for_one(accept: str | None, dest: str | None, wanted: bool) -> None:
    request = asking(accept, **({"sec-fetch-dest": dest} if dest else {}))
    assert wants_page(request) is wanted
    response = problem_response(Refusal(Reason.RULE, "no"), "flow-1", request)
    kind = "text/html; charset=utf-8" if wanted else "application/problem+json"
    assert response.headers["content-type"] == kind


@pytest.mark.parametrize("reason", Reason)
def test_headers_of_the_refusal_stay_and_allow_its_style_alone(reason: Reason) -> None:
    refusal = Refusal(reason, "The <why>", "exit", "ipv6", "h.test", "#3", retry_after=2.5)
    page = problem_response(refusal, "flow-1", asking(FIREFOX))
    plain = problem_response(refusal, "flow-1", asking("*/*"))
    differ = {"content-type", "content-length"}
    assert page.status_code == 503
    for name in {*plain.headers} - differ:
        assert page.headers[name] == plain.headers[name]
    text = page.text or ""
    [style] = re.findall("<style>(.*)</style>", text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert page.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    for part in (reason.value, reason.code.value, "The &lt;why&gt;", "#3", "exit", "What to do"):
        assert part in text
    assert "egress-policy explain https://site.test:443/" in text


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))


HOSTILE = st.text(max_size=40) | st.sampled_from(
    ["<script>x()</script>", "</style><img src=x onerror=x()>", '" onload="x()', "&lt;", "\u202e"]
)
PLAIN = Tags(
    refusal_page(Refusal(Reason.RULE, "a", "a", host="a", rule="a"), "a", asking(None)).decode()
).seen


@given(detail=HOSTILE, proxy=HOSTILE, rule=HOSTILE, host=HOSTILE, flow_id=HOSTILE)
def test_no_text_becomes_markup(
    detail: str, proxy: str, rule: str, host: str, flow_id: str
) -> None:
    request = asking(FIREFOX)
    request.data.host = host
    refusal = Refusal(Reason.RULE, detail or "-", proxy or "-", host=host, rule=rule or "-")
    page = refusal_page(refusal, flow_id, request).decode()
    assert Tags(page).seen == PLAIN
    assert "\u202e" not in page


@given(st.text())
def test_any_accept_is_read(accept: str) -> None:
    wants_page(asking(accept))


async def test_browser_gets_the_page_through_the_proxy(tmp_path: Path) -> None:
    async with egress(tmp_path, rules=[{"name": "ads", "use": "refuse"}]) as mitm:
        url = "http://ads.test/"
        page = await http_get(mitm.port, url, headers=[("accept", FIREFOX)])
        assert page.status == 503
        assert b"<dt>Rule</dt><dd>ads</dd>" in page.body
        plain = await http_get(mitm.port, url, headers=[("accept", "*/*")])
        assert plain.body.startswith(b'{"type"')


@pytest.mark.parametrize("host", ["x;id", "$(id).test", "`id`", "a&b", "2001:db8::1", "a'b"])
def test_command_that_is_shown_runs_nothing_else(host: str) -> None:
    request = asking(FIREFOX)
    request.data.host = host
    text = refusal_page(Refusal(Reason.RULE, "no"), "1", request).decode()
    shown = re.search("<code>(egress-policy explain .*?)</code>", text)
    assert shown
    words = shlex.split(html.unescape(shown[1]), posix=True)
    assert words == ["egress-policy", "explain", f"https://{url_host(host)}:443/"]
    lexer = shlex.shlex(html.unescape(shown[1]), posix=True, punctuation_chars=True)
    assert [one for one in lexer if set(one) <= set(";&|()")] == []
