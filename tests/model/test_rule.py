from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from egress_policy.errors import InvalidEntry
from egress_policy.model.host import normalize_target_host
from egress_policy.model.network import parse_client_network
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import (
    Policy,
    Rule,
    name_conflicts,
    parse_host_pattern,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("*", "*"),
        ("API.example.com.", "api.example.com"),
        ("*.Example.ORG", "*.example.org"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("localhost", "localhost"),
    ],
)
def test_host_pattern_is_canonical(text: str, canonical: str) -> None:
    assert parse_host_pattern(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("", "*.", "**", "a*.example", "*a.example", "*.*.example", "a.*", "exa mple"),
        *("http://example.com", "example.com:443", "user@example.com", "example.com/x"),
        *("*.192.0.2.1", "*.[::1]", "*.1", "127.1", "0x7f.1", "2130706433", "a..b"),
    ],
)
def test_host_pattern_that_could_not_match_as_meant_is_rejected(text: str) -> None:
    with pytest.raises(InvalidEntry, match="Invalid host pattern") as caught:
        parse_host_pattern(text)
    assert caught.value.field == "hosts"


@given(st.text() | st.from_regex(r"(\*\.)?[A-Za-z0-9_-]{1,9}(\.[a-z0-9é]{1,9}){0,3}\.?"))
def test_exact_pattern_is_what_the_target_of_the_same_text_becomes(text: str) -> None:
    try:
        pattern = parse_host_pattern(text)
    except InvalidEntry:
        return
    assert parse_host_pattern(pattern) == pattern
    if not text.startswith("*"):
        assert normalize_target_host(text) == pattern


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_client_network_counts_mapped_addresses_as_ipv4(text: str, network: str) -> None:
    parsed = parse_client_network(text)
    assert parsed == ip_network(network)
    assert parse_client_network(parsed) is parsed


@pytest.mark.parametrize(
    "value", ["", "192.0.2.1/24", "host", "fe80::1%eth0", "1.2.3.4/33", 5, None]
)
def test_invalid_client_network_is_rejected(value: object) -> None:
    with pytest.raises(InvalidEntry, match="Invalid client") as caught:
        parse_client_network(value)
    assert caught.value.field == "clients"


def test_rule_without_condition_has_only_defaults() -> None:
    rule = Rule(use="refuse")
    assert (rule.hosts, rule.clients, rule.ports, rule.filter) == ((), (), (), "")
    assert Rule.model_validate(rule.model_dump(exclude_defaults=True)) == rule


@pytest.mark.parametrize(
    "fields",
    [
        {"hosts": []},
        {"clients": []},
        {"ports": []},
        {"filter": ""},
        {"hosts": "example.com"},
        {"hosts": None},
        {"ports": [0]},
        {"ports": [65536]},
        {"ports": ["443"]},
        {"ports": [True]},
        {"clients": ["nobody"]},
        {"use": None},
        {"use": ""},
        {"use": ["a"]},
        {"use": {"host": "127.1"}},
        {"name": "a\nb"},
        {"host": ["example.com"]},
        {"family": "ipv5"},
        {"family": "IPv6"},
        {"target_family": "auto", "use": "p"},
        {"family": "ipv6", "use": "p"},
        {"family": "auto", "use": "p"},
        {"family": "ipv6", "use": "refuse"},
        {"target_family": "ipv6", "use": "direct"},
        {"target_family": "ipv6", "use": "refuse"},
        {"family": "ipv6", "hosts": ["192.0.2.1"]},
        {"target_family": "ipv4", "use": "p", "hosts": ["ok.example", "::1"]},
    ],
    ids=str,
)
def test_rule_rejects(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate({"use": "direct"} | fields)


def test_rule_accepts_families_where_they_have_a_meaning() -> None:
    assert Rule(use="direct", family="ipv6", hosts=("::1", "*.example")).family == "ipv6"
    assert Rule(use="p", target_family="ipv4").target_family == "ipv4"
    inline = {"host": "192.0.2.7", "family": "ipv4"}
    assert Rule.model_validate({"use": inline, "target_family": "ipv6"}).target_family == "ipv6"


def test_inline_proxy_is_named_by_its_address_without_credentials() -> None:
    inline = {"type": "socks5", "host": "[2001:db8::1]", "username": "u", "password": "hunter2"}
    use = Rule.model_validate({"use": inline}).use
    assert isinstance(use, Proxy)
    assert use.name == "socks5://[2001:db8::1]:1080"
    assert use.password.get_secret_value() == "hunter2"


def test_inline_proxy_keeps_a_name_it_has() -> None:
    proxy = Proxy(name="own", host="192.0.2.7")
    assert Rule(use=proxy).use == proxy
    assert Rule.model_validate({"use": {"name": "own", "host": "192.0.2.7"}}).use == proxy


def test_errors_of_an_inline_proxy_do_not_show_its_password() -> None:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate({"use": {"host": "127.1", "password": "hunter2"}})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["p", "direct", "Refuse", "UPSTREAM", "(Other)"])
def test_policy_rejects_names_that_are_taken_or_reserved(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Policy(proxies=(Proxy(name="p", host="h.example"),), pools=(Pool(name=name, members=()),))


def test_name_conflicts_tell_where_the_second_one_stands() -> None:
    names = [(("proxies", 0), "a"), (("pools", 0), "b"), (("pools", 1), "a")]
    assert list(name_conflicts(names)) == [(("pools", 1), "'a' is used twice")]


def test_values_are_frozen() -> None:
    for value in (Rule(use="direct"), Pool(name="p", members=()), Policy()):
        for field in type(value).model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(value, field, None)
