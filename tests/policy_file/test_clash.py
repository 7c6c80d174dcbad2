import json
import time
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry
from egress_policy.model.list_entry import NotCarried, ProxyEntry
from egress_policy.policy_file import yaml_lines
from egress_policy.policy_file.clash import is_clash, parse_clash

BLOCK = """\
mixed-port: 7890
proxies:
  # a comment
  - name: "🇩🇪 DE 1"
    type: socks5
    server: 192.0.2.1
    port: 1080
    username: alice
    password: 0123
    udp: true
  - {name: secure, type: http, server: p.example.com, tls: true, ip-version: ipv6}
proxy-groups:
  - {name: auto, type: url-test, proxies: [secure]}
"""


def entries(text: str) -> list[Any]:
    return [entry for _, entry in parse_clash(text).entries]


def entry(**fields: object) -> Any:
    whole = {"name": "n", "type": "http", "server": "p.example.com", "port": 8080, **fields}
    [found] = entries(json.dumps({"proxies": [whole]}))
    return found


def test_http_and_socks5_are_read_and_no_spelling_is_lost() -> None:
    assert is_clash(BLOCK)
    one, other = entries(BLOCK)
    assert dict(one) == {
        "name": "🇩🇪 DE 1",
        "type": "socks5",
        "host": "192.0.2.1",
        "port": 1080,
        "username": "alice",
        "password": "0123",
        "family": "auto",
    }
    assert dict(other) == {
        "name": "secure",
        "type": "https",
        "host": "p.example.com",
        "port": 443,
        "family": "ipv6",
    }


@pytest.mark.parametrize(
    "password", ["true", "1e3", "0x1F", "1_000", "2026-01-31", "12:30", "0o17", ".5"]
)
def test_password_without_quotes_stays_as_it_is_written(password: str) -> None:
    text = f"proxies:\n  - {{name: n, type: http, server: h.example, password: {password}}}\n"
    [found] = entries(text)
    assert found["password"] == password


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BLOCK, True),
        (BLOCK.replace("\n", "\r\n"), True),
        ("\ufeffproxies:\n- name: n\n  type: http\n", True),
        ("proxies: [{name: n, type: http, server: h, port: 80}]\n", True),
        ('{"proxies": [{"name": "n"}]}', True),
        ("proxies:\n192.0.2.1:80\n", False),
        ("# proxies:\nh.example:80\n", False),
        ("proxies:\n- h.example:80\n", False),
        ('{"items": [{"name": "n"}]}', False),
        ("name,host,port\nproxies:,h.example,80\n", False),
        ('name,host,port,notes\na,h.example,80,"x\nproxies:\n- name: n\n"\n', False),
        ("h.example:80\nproxies:\n- name: n\n", False),
        ('---\n# ours\n\n"proxies":\n  - {"name": "n"}\n', True),
        ('{\n "proxies": [{"name": "n"}]\n}', True),
        ("", False),
    ],
)
def test_clash_is_told_from_other_lists(text: str, expected: bool) -> None:
    assert is_clash(text) is expected


@pytest.mark.parametrize("type_", ["ss", "vmess", "trojan", "hysteria2", "socks4", ""])
def test_type_without_a_counterpart_is_left_out_and_named(type_: str) -> None:
    found = entry(type=type_)
    assert isinstance(found, NotCarried)
    assert type_ in str(found)
    assert found.field == "type"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "socks5", "tls": True}, "tls"),
        ({"tls": "maybe"}, "tls"),
        ({"tls": True, "sni": "other.example"}, "sni"),
        ({"dialer-proxy": "other"}, "dialer-proxy"),
        ({"headers": {"x": "y"}}, "headers"),
        ({"ip-version": "IPv5"}, "ip-version"),
        ({"server": ""}, "server"),
        ({"server": ["h"]}, "server"),
        ({"port": 0}, "port"),
        ({"port": "8O"}, "port"),
    ],
)
def test_entry_that_would_lead_another_way_is_an_error(fields: Any, field: str) -> None:
    found = entry(**{**fields, "password": "s3cret"})
    assert isinstance(found, InvalidEntry)
    assert not isinstance(found, NotCarried)
    assert found.field == field
    assert "s3cret" not in str(found)


def test_what_is_kept_otherwise_is_remarked() -> None:
    assert entry().remark == ""
    assert "prefers IPv6" in entry(**{"ip-version": "ipv6-prefer"}).remark
    assert "certificate is checked" in entry(tls=True, **{"skip-cert-verify": True}).remark
    assert entry(password_set=True).lacks_password


@pytest.mark.parametrize(
    "text", ["proxies: {}\n", "proxies:\n", "[]", "proxies:\n  - {name: [}\n", "proxies:\n  - x\n"]
)
def test_what_is_no_list_is_an_error_of_its_own(text: str) -> None:
    [found] = entries(text)
    assert isinstance(found, InvalidEntry)


@pytest.mark.parametrize("piece", ["\n", "proxies:\n", "#\n", " ", "proxies: [", "- "])
def test_long_text_takes_linear_time(piece: str) -> None:
    def seconds(times: int) -> float:
        text = f"proxies:\n{piece * times}"
        began = time.process_time()
        is_clash(text)
        list(islice(parse_clash(text).entries, 1))
        return time.process_time() - began

    short = max(seconds(20_000), 0.01)
    assert seconds(200_000) < 60 * short


def test_short_text_cannot_become_a_huge_document() -> None:
    keys = ", ".join(f"k{number}: v" for number in range(1000))
    merges = "".join("  - {<<: *a}\n" for _ in range(1000))
    [found] = entries(f"a: &a {{{keys}}}\nproxies:\n{merges}")
    assert "repeats too much" in str(found)


@given(st.text() | st.text(alphabet="proxies:{}[]-\n ,\"'&*<!|>#~0123aé\u2028"))
def test_no_text_makes_it_raise(text: str) -> None:
    is_clash(text)
    for _, found in parse_clash(f"proxies:\n{text}").entries:
        assert isinstance(found, ProxyEntry | InvalidEntry)


@pytest.mark.parametrize("part", ["{}, ", "[], ", "*a, ", "x, "])
def test_document_of_very_many_parts_is_an_error(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list comes from a server of others, and a few bytes become a hundred times more."""
    text = f"a: &a {{type: ss}}\nproxies: [{{type: ss}}, {part * 1000}]"
    assert len(entries(text)) >= 1000
    monkeypatch.setattr(yaml_lines, "_MOST_PARTS", 1000)
    found = entries(text)
    assert len(found) == 1
    assert "more than 1,000 parts" in str(found[0])
