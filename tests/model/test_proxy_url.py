import re
import string
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from egress_policy.errors import EgressError, InvalidEntry
from egress_policy.model.family import ProxyFamily
from egress_policy.model.host import canonical_ip, url_host
from egress_policy.model.proxy import Proxy, ProxyType
from egress_policy.model.proxy_url import (
    ParsedProxyUrl,
    normalize_proxy_url,
    parse_port,
    parse_proxy_type,
    parse_proxy_url,
    proxy_config_to_url,
    resolve_connect_family,
)
from tests.helpers.conformance import load

TYPES: list[ProxyType] = ["http", "https", "socks5"]
FAMILIES: list[ProxyFamily] = ["auto", "ipv4", "ipv6"]

credentials = st.text(st.sampled_from(string.printable) | st.characters(exclude_categories=["Cs"]))
names = st.from_regex(r"\A[a-z_][a-z0-9_]{0,20}(\.[a-z]{2,9}){0,3}\Z")
hosts = st.one_of(
    names,
    st.sampled_from(["bücher.example", "例え.テスト", "Ünï_cödé.example.", "PROXY.Example.COM"]),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.builds(
        "fe80::{:x}%{}".format, st.integers(1, 0xFFFF), st.sampled_from(["eth0", "25", "251"])
    ),
)
configs = st.fixed_dictionaries(
    {"host": hosts},
    optional={
        "type": st.sampled_from(TYPES),
        "port": st.integers(1, 65535),
        "username": credentials,
        "password": credentials,
        "family": st.sampled_from(FAMILIES),
    },
)


@pytest.mark.parametrize("vector", load("proxy_url"), ids=lambda v: v["in"])
def test_canonical_form_follows_the_vectors(vector: dict[str, Any]) -> None:
    if "error" in vector:
        with pytest.raises(InvalidEntry) as caught:
            normalize_proxy_url(vector["in"])
        assert vector["error"].lower() in str(caught.value).lower()
    else:
        assert normalize_proxy_url(vector["in"]) == vector["out"]
        assert normalize_proxy_url(vector["out"]) == vector["out"]


@given(configs)
@example({"host": "h", "username": "%41", "password": "%"})
@example({"host": "h", "username": "a:b@c/d?e#f", "password": "a:b@c/d?e#f %zz é"})
def test_object_and_url_hold_the_same_fields(config: dict[str, Any]) -> None:
    assume(canonical_ip(config["host"]) not in {"0.0.0.0", "::"})
    url = proxy_config_to_url(config)
    parsed = parse_proxy_url(url)
    assert parsed.type == config.get("type", "http")
    assert parsed.port == config.get(
        "port", {"http": 8080, "https": 443, "socks5": 1080}[parsed.type]
    )
    assert parsed.username == config.get("username", "")
    assert parsed.password == config.get("password", "")
    assert parsed.family == config.get("family", "auto")
    assert parsed.url() == url == normalize_proxy_url(url)
    assert url.isascii()


@given(
    st.sampled_from([*TYPES, "SOCKS5h"]),
    st.text(st.sampled_from(string.printable.translate({ord(c): None for c in "/?#"}) + "é例")),
    hosts,
    st.sampled_from(["", "/", "?family=ipv4", "/?family=ipv6", "?family=auto#a%20name"]),
)
@example("http", "u:p%ff%zz%", "proxy.example.com", "")
def test_canonicalising_twice_changes_nothing(
    scheme: str, userinfo: str, host: str, tail: str
) -> None:
    assume(canonical_ip(host) not in {"0.0.0.0", "::"})
    assume(not re.match(r"[^:@]*:[0-9]{1,5}(?![^:@])", userinfo))  # may be host:port
    url = normalize_proxy_url(f"{scheme}://{userinfo}@{url_host(host)}:3128{tail}")
    assert normalize_proxy_url(url) == url


@given(st.text())
def test_any_text_gives_a_url_or_an_invalid_entry(text: str) -> None:
    for candidate in (text, f"http://{text}", f"http://h{text}", f"http://{text}@h"):
        try:
            url = normalize_proxy_url(candidate)
        except InvalidEntry:
            continue
        assert normalize_proxy_url(url) == url


def test_every_part_of_a_url_is_read() -> None:
    text = "SOCKS5H://al%69ce:s%40f%3Ae:x@[FE80::1%25eth0]:1081/?family=ipv6#de%201"
    assert parse_proxy_url(text) == ParsedProxyUrl(
        type="socks5",
        host="fe80::1%eth0",
        port=1081,
        username="alice",
        password="s@f:e:x",
        family="ipv6",
        name="de 1",
    )


@pytest.mark.parametrize(
    ("userinfo", "username", "password"),
    [
        ("u", "u", ""),
        ("u:", "u", ""),
        (":p", "", "p"),
        (":", "", ""),
        ("u@corp:p@ss", "u@corp", "p@ss"),
        ("u:100%", "u", "100%"),
        ("u:50%zz%4", "u", "50%zz%4"),
        ("u:%ff%41", "u", "%ff%41"),
        ("u:%C3%BC", "u", "ü"),
        ("u:p+q r", "u", "p+q r"),
        ("u:[::1]", "u", "[::1]"),
    ],
)
def test_credentials_are_read_without_loss(userinfo: str, username: str, password: str) -> None:
    parsed = parse_proxy_url(f"http://{userinfo}@proxy.example.com")
    assert (parsed.host, parsed.username, parsed.password) == (
        "proxy.example.com",
        username,
        password,
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("http://hunter2:hunter2", "port"),
        ("http://u:hunter2/x@proxy.example.com", "password"),
        ("http://u:12#hunter2@proxy.example.com", "password"),
        ("http://u:12?hunter2@proxy.example.com", "password"),
        ("http://u:hunter2:x", "host"),
        ("u:hunter2@proxy.example.com:80", "scheme"),
        ("http://u:hunter2@proxy.example.com:80hunter2", "port"),
        ("http://u:hunter2@proxy.example.com:80/hunter2", "path"),
        ("http://u:hunter2@[::1]hunter2", "host"),
        ("http://u:hunter2@[::1", "host"),
        ("http://u:hunter2@[203.0.113.7]:80", "host"),
        ("http://u:hunter2@[proxy.example.com]:80", "host"),
        ("http://u:hunter2@proxy.example.com:\u0668\u0660", "port"),
        ("http://u:hunter2@proxy.example.com?family", "family"),
        ("http://u:hunter2@proxy.example.com?family=", "family"),
        ("http://u:hunter2@proxy.example.com?Family=ipv6", "query"),
        ("http://u:hunter2@proxy.example.com?family=ipv4&family=ipv4", "family"),
        ("http://u:hunter2\ud800@proxy.example.com", "password"),
        ("http:proxy.example.com", "scheme"),
        ("//proxy.example.com", "scheme"),
        ("socks://u:hunter2@proxy.example.com", "type"),
    ],
)
def test_malformed_url_is_rejected_by_part_and_without_the_password(text: str, field: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse_proxy_url(text)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)


def test_empty_port_is_the_one_of_the_scheme() -> None:
    ports = [parse_proxy_url(f"{type_}://u:p@h:").port for type_ in TYPES]
    assert ports == [8080, 443, 1080]


def test_port_can_be_required() -> None:
    assert parse_proxy_url("http://proxy.example.com:1", require_port=True).port == 1
    for missing in ("", ":"):
        with pytest.raises(InvalidEntry, match="port"):
            parse_proxy_url(f"http://proxy.example.com{missing}", require_port=True)


def test_credentials_that_begin_with_a_place_are_ambiguous() -> None:
    dotted = ("192.0.2.1:3000:alice:p", "gate.example.com:7000:u:k", "[::1]:80:u", "u.v:3000")
    for userinfo in (*dotted, "127.1:80", "h.example:99999", "u:3000:p", "u:3000", "u:80@x:p"):
        with pytest.raises(InvalidEntry, match="Ambiguous"):
            parse_proxy_url(f"http://{userinfo}@evil.example:443")
    for userinfo in ("u:p:3000", "12:34", "u+v:80", "me@c.example:12:p", "192.0.2.1%3A3000:p:q"):
        assert parse_proxy_url(f"http://{userinfo}@h:443").host == "h"


@pytest.mark.parametrize("username", ["alice", "u.v", "192.0.2.1", "12", "u:v", "[::1]", ""])
@pytest.mark.parametrize("password", ["8080", "80:x", "80@x", "123456", "8"])
def test_account_like_a_place_is_written_so_that_it_has_one_reading(
    username: str, password: str
) -> None:
    url = ParsedProxyUrl("socks5", "h.example", 1080, username, password).url()
    assert parse_proxy_url(url).url() == url
    assert (parse_proxy_url(url).username, parse_proxy_url(url).password) == (username, password)


def test_repr_does_not_show_the_password() -> None:
    parsed = parse_proxy_url("http://alice:hunter2@proxy.example.com")
    assert "hunter2" not in f"{parsed} {parsed!r}"
    assert "hunter2" in parsed.url()


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ({"host": "h"}, "http://h:8080"),
        ({"host": "h", "type": None, "port": None, "family": None}, "http://h:8080"),
        ({"host": "h", "type": "SOCKS5", "id": 7}, "socks5://h:1080"),
        ({"host": "h", "port": "3128"}, "http://h:3128"),
        ({"host": "H", "username": "u", "password": "p@"}, "http://u:p%40@h:8080"),
        ({"host": "h", "password": SecretStr("p")}, "http://:p@h:8080"),
        ({"host": "::1", "family": "ipv6"}, "http://[::1]:8080?family=ipv6"),
        ({"host": "203.0.113.7", "family": "ipv6"}, "http://203.0.113.7:8080?family=ipv6"),
    ],
)
def test_object_is_written_as_its_canonical_url(config: dict[str, object], url: str) -> None:
    assert proxy_config_to_url(config) == url


def test_proxy_value_is_written_as_its_canonical_url() -> None:
    value = Proxy(
        name="de-1",
        type="socks5",
        host="2001:db8::1",
        username="u",
        password=SecretStr("p/w"),
        family="ipv6",
    )
    assert proxy_config_to_url(value) == "socks5://u:p%2Fw@[2001:db8::1]:1080?family=ipv6"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "host"),
        ({"host": ""}, "host"),
        ({"host": None}, "host"),
        ({"host": 7}, "host"),
        ({"host": "u:hunter2@h"}, "host"),
        ({"host": "h", "type": "socks4"}, "type"),
        ({"host": "h", "type": 5}, "type"),
        ({"host": "h", "port": 0}, "port"),
        ({"host": "h", "port": True}, "port"),
        ({"host": "h", "port": 80.0}, "port"),
        ({"host": "h", "port": "0x50"}, "port"),
        ({"host": "h", "username": 1}, "username"),
        ({"host": "h", "password": "hunter2\ud800"}, "password"),
        ({"host": "h", "family": "IPv6"}, "family"),
        ({"host": "h", "family": ""}, "family"),
    ],
)
def test_bad_object_is_an_error_and_never_no_proxy(config: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        proxy_config_to_url(config)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "family"),
    [
        ("http://proxy.example.com", None),
        ("http://proxy.example.com?family=ipv6", 6),
        ("socks5://proxy.example.com?family=ipv4", 4),
        ("http://203.0.113.7", 4),
        ("http://[2001:db8::1]", 6),
        ("http://[::ffff:203.0.113.7]?family=ipv4", 4),
    ],
)
def test_family_of_the_hop(url: str, family: int | None) -> None:
    assert resolve_connect_family(url) == family


def test_marker_against_a_literal_is_refused() -> None:
    with pytest.raises(EgressError) as caught:
        resolve_connect_family("http://203.0.113.7:80?family=ipv6")
    assert str(caught.value) == "Proxy family directive ipv6 contradicts IPv4 literal host"
    assert caught.value.code == "PROXY_FAMILY_UNAVAILABLE"
    with pytest.raises(InvalidEntry):
        resolve_connect_family("proxy.example.com")


def test_type_words() -> None:
    assert [parse_proxy_type(word) for word in ("HTTP", "https", "Socks5", "socks5h")] == [
        *("http", "https", "socks5", "socks5")
    ]


@pytest.mark.parametrize(
    "text", ["", "0", "00000", "65536", "000080", "-1", "+1", "1_0", " 1", "²"]
)
def test_port_is_a_plain_decimal_number(text: str) -> None:
    with pytest.raises(InvalidEntry, match="port"):
        parse_port(text)
