from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry
from egress_policy.model.proxy import Proxy
from egress_policy.model.proxy_line import ProxyEntry, parse_proxy_line, parse_proxy_lines
from tests.helpers.conformance import load


def entry(line: str) -> ProxyEntry:
    parsed = parse_proxy_line(line)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize("vector", load("import_lines"), ids=lambda v: v["in"])
def test_line_follows_the_vectors(vector: dict[str, Any]) -> None:
    if "error" in vector:
        with pytest.raises(InvalidEntry) as caught:
            parse_proxy_line(vector["in"])
        assert vector["error"].lower() in str(caught.value).lower()
    elif vector["out"] is None:
        assert parse_proxy_line(vector["in"]) is None
    else:
        parsed = entry(vector["in"])
        assert {key: parsed.get(key) for key in vector["out"]} == vector["out"]


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("[2001:DB8::1]:1080", {"host": "2001:db8::1", "port": 1080}),
        (" h:1 ", {"host": "h", "port": 1}),
        ("u@h:1", {"username": "u", "host": "h"}),
        ("u:p@ss@h:1", {"username": "u", "password": "p@ss", "host": "h"}),
        ("u:p%40ss@h:1", {"username": "u", "password": "p@ss", "host": "h"}),
        ("h:1?family=ipv6#de-1", {"host": "h", "family": "ipv6", "name": "de-1"}),
        ("h:1:u:p%40ss", {"host": "h", "username": "u", "password": "p%40ss"}),
        ("[::1]:80:u:p@ss", {"host": "::1", "port": 80, "username": "u", "password": "p@ss"}),
        ("203.0.113.7:1080:u:12345", {"host": "203.0.113.7", "port": 1080, "password": "12345"}),
        ("u:p:proxy.example.com:80", {"host": "proxy.example.com", "port": 80, "username": "u"}),
        ("1:2:203.0.113.7:80", {"host": "203.0.113.7", "username": "1", "password": "2"}),
        ("u:p:[::1]:80", {"host": "::1", "port": 80, "username": "u", "password": "p"}),
        ("h:1080:u:p@ss", {"host": "h", "password": "p@ss"}),
        ("h:1:u:pa|ss", {"host": "h", "password": "pa|ss"}),
        ("http://u:p|a|ss@h", {"type": "http", "password": "p|a|ss", "port": 8080}),
        ("de-1 | H | 80", {"name": "de-1", "host": "h", "port": 80, "type": "socks5"}),
        ("|[::1]|80|||HTTPS", {"host": "::1", "type": "https"}),
        ("n|h|80||||eu|Inactive|a | b", {"region": "eu", "status": "inactive", "notes": "a | b"}),
    ],
)
def test_forms_are_told_apart(line: str, fields: dict[str, object]) -> None:
    parsed = entry(line)
    assert {key: parsed[key] for key in fields} == fields


@pytest.mark.parametrize("line", ["user:8080:proxy.example.com:1080", "a:80:b@host:1080"])
def test_line_with_two_readings_is_rejected(line: str) -> None:
    with pytest.raises(InvalidEntry, match=r"(?i)ambiguous.*URL"):
        parse_proxy_line(line)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("proxy.example.com", "port"),
        ("http", "port"),
        ("2001:db8::1:1080", "host"),
        ("2001:db8::abcd:1080", "host"),
        ("abcd:80:1:2:3:4:5:6", "host"),
        ("u:hunter2:localhost:80", "host"),
        ("203.0.113.7:99999:u:123", "port"),
        ("127.1:1080:u:hunter2", "host"),
        ("h:1:u:hunter2:x", "host"),
        ("h:x:u:hunter2@x", "port"),
        ("u:hunter2/x@h:80", "password"),
        ("n|h|hunter2", "port"),
        ("n||80|u|hunter2", "host"),
        ("n|h|80|u|x|hunter2|http", "type"),
        ("n|h|80|u|p|http|eu|hunter2", "status"),
        ("u|hunter2@h:80|x", "host"),
    ],
)
def test_bad_line_is_rejected_by_part_and_without_the_password(line: str, field: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse_proxy_line(line)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)


def test_entry_is_a_read_only_mapping_of_what_the_line_states() -> None:
    parsed = entry("h:80:u:p")
    stated = {"type": "socks5", "host": "h", "port": 80, "username": "u", "password": "p"}
    assert parsed == stated
    assert len(parsed) == 5
    assert Proxy.model_validate({"name": "n", **parsed}).username == "u"
    with pytest.raises(TypeError):
        parsed["host"] = "other"  # type: ignore[index]


def test_repr_does_not_show_the_password() -> None:
    assert "hunter2" not in repr(entry("h:80:u:hunter2")) + str(entry("h:80:u:hunter2"))
    assert "password" not in repr(entry("h:80"))


def test_header_gives_the_type_of_the_lines_after_it() -> None:
    text = "\ufeffa:1\r\nHTTP\n\nb:2\n# https\nc|c|3\nsocks5://d:4\n bad \nhttps\ne:5:u:p"
    numbered = dict(parse_proxy_lines(text))
    assert list(numbered) == list(range(1, 11))
    entries = {n: (e["host"], e["type"]) for n, e in numbered.items() if isinstance(e, ProxyEntry)}
    assert entries == {
        1: ("a", "socks5"),
        4: ("b", "http"),
        6: ("c", "http"),
        7: ("d", "socks5"),
        10: ("e", "https"),
    }
    assert [n for n, e in numbered.items() if e is None] == [2, 3, 5, 9]
    assert isinstance(numbered[8], InvalidEntry)


@given(st.text() | st.text("ab.:@|[]#?/12 \nht tp"))
def test_any_text_gives_entries_or_invalid_entries(text: str) -> None:
    for _, parsed in parse_proxy_lines(text):
        assert parsed is None or isinstance(parsed, ProxyEntry | InvalidEntry)
