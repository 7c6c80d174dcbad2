"""Below a heading no line has the type of the section above it."""

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.model.headings import parse_heading
from egress_policy.model.list_entry import ProxyEntry
from tests.model.test_proxy_list import entries, good, problem

WORDS: dict[str, str | None] = {
    "http": "http",
    "HTTPS": "https",
    "Socks5": "socks5",
    "socks5h": "socks5",
}
WORDS |= dict.fromkeys(("SOCKS4", "socks4a", "SOCKS"))
DECORATED = [
    "{}",
    "{} proxies, last checked 2026-11-29 10:00 UTC",
    "Updated 2026-11-29 10:00 - {}",
    "{} | 120",
    "|{}|",
    "| {} | 120 |",
    "{}:120",
    "[{}:120]",
    "{} list from https://example.com/socks5/http.txt",
    "{} @ 10:00",
    "# {}",
    "# --- {} ---",
    "#{}: 120",
    "# my {} proxies from home",
    "##\t[{}] 2026-11-29 10:00 #",
    "# {} of https://h.example:80/",
    "{{{}}}",
    "==> {}.txt <==",
    "<h2>{}</h2>",
    "// {}",
    "; {}",
    "[{}://]",
    "*** {} (elite), 192 of them ***",
    "\u201c{}\u201d \u2013 fast",
]


@pytest.mark.parametrize("decoration", DECORATED)
@pytest.mark.parametrize("word", WORDS)
def test_line_that_names_a_protocol_gives_the_type_or_takes_it_away(
    word: str, decoration: str
) -> None:
    for before in ("http", "socks5"):
        text = f"{before}\n{decoration.format(word)}\n5.6.7.8:1080"
        found = entries(text)
        last = found[3]
        assert (last["type"] if isinstance(last, ProxyEntry) else None) == WORDS[word]
        if isinstance(last, InvalidEntry):
            assert "No proxy type: line 2 " in str(last)
        assert not isinstance(found[2], ProxyEntry)


@pytest.mark.parametrize(
    "line",
    [
        "HTTP and SOCKS5",
        "# http or https, I forget",
        "HTTP(S)",
        "HTTP/HTTPS",
        "SOCKS5/4",
        "socks4 & 5",
        "# socks5, not SOCKS4",
        "SOCKS 5",
        "socks v4 proxies",
        "SSL proxies",
        "[vmess]",
        "nonsense",
        "socks5.txt",
        "\uff33\uff2f\uff23\uff2b\uff33\uff14",
        "# SOC\u200bKS4",
        "http\u200b",
        # proxies that failed, and are told
        "1.2.3.4:99999:http:p",
        "1.2.3.4 8080 http",
        "# 1.2.3.4 8080 https",
        "gate:99999:http:p",
        "gate.example,8080,http",
        "gate:x:http:p",
        "n|h|bad|u|p|http",
        "n | gate | bad | u | p | http",
        "http:p@h:99999",
        "[2001:db8::1]:x:http:p",
        "http.example.com",
        "http-proxy:80:u:p",
    ],
)
def test_line_that_names_no_one_protocol_leaves_none_in_force(line: str) -> None:
    assert parse_heading(line) == "unknown"
    assert problem(f"http\n{line}\n5.6.7.8:1080", 3).field == "type"
    assert isinstance(entries(f"http\n{line}")[2], InvalidEntry) != line.startswith("#")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "---",
        "# a comment",
        "# from https://example.com/http and socks5://h",
        "# socks5://h:1",
        "# 1.2.3.4:80:https:p",
        "#n|h|80|u|p|https",
        "# nonsense",
        "updated on Monday",
        "Proxies:",
        "8080",
        "proxy.example.com",
        "192.0.2.1",
        "[::1]",
        "cafe::",
        "https://h/x",
        "socks4://h:1",
        "https://h:x",
        '{"host": "h", "type": "socks4", "port": "x"}',
        "httpbin.example:80",
        "my-https-gate:80",
        "n|https-gate|80|u|p|https",
        "https.example:80",
    ],
)
def test_line_that_is_no_heading_changes_no_type(line: str) -> None:
    last = entries(f"http\n{line}\n5.6.7.8:1080")[3]
    assert isinstance(last, ProxyEntry)
    assert last["type"] == "http"


@pytest.mark.parametrize("line", ["SOCKS5:120", "socks5-proxies:1080", "|socks5|120|"])
def test_heading_that_may_be_a_proxy_is_told_and_gives_its_type(line: str) -> None:
    found = entries(f"http\n{line}\nh:1")
    assert isinstance(found[3], ProxyEntry)
    assert found[3]["type"] == "socks5"
    if "|" not in line:
        assert "before such a host" in str(found[2])
    assert good("socks5://socks5:120")[1]["host"] == "socks5"
