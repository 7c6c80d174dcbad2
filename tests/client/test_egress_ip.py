"""The egress IP in an answer: one literal or nothing, whatever the answer is."""

import ipaddress
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.client.egress_ip import find_egress_ip

KEYS = ("ip", "origin", "query", "address")
TRACE = "fl=123f45\nh=www.example.com\nip={}\nts=1764432000.1\nvisit_scheme=https\nuag=x=y\n"
FORMATS: dict[str, Callable[[str], str]] = {
    "literal": lambda ip: f"{ip}\n",
    "trace": TRACE.format,
    **{key: lambda ip, key=key: json.dumps({"country": "x", key: ip}) for key in KEYS},  # type: ignore[misc]
}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"\n 2001:DB8:0::1\r\n", "2001:db8::1"),
        (b'{"ip":"192.0.2.7","country":"x"}', "192.0.2.7"),
        (b' {"ip": "::ffff:192.0.2.7"}', "192.0.2.7"),
        (b'{"origin": "192.0.2.7"}', "192.0.2.7"),
        ('{"query": "192.0.2.7", "city": "Zürich"}'.encode(), "192.0.2.7"),
        (b'{"ip": "192.0.2.7", "address": "Main Street 1, Zurich"}', "192.0.2.7"),
        (b'{"ip": "192.0.2.7", "address": {"street": "Main"}}', "192.0.2.7"),
        (b'{"ip": "192.0.2.7", "origin": "::ffff:c000:207"}', "192.0.2.7"),
        (b"ip=2001:db8::1\n", "2001:db8::1"),
        (TRACE.format("192.0.2.7").replace("\n", "\r\n").encode(), "192.0.2.7"),
    ],
)
def test_literal_is_found_in_its_one_spelling(body: bytes, found: str) -> None:
    assert find_egress_ip(body) == found


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"origin.test", b"127.1", b"192.0.2.7 192.0.2.8", b"<p>192.0.2.7</p>", b"\xff"),
        *(b"{", b"{}", b'{"ip": 1}', b'{"ip": null}', b'["192.0.2.7"]', b'{"IP": "192.0.2.7"}'),
        *(b"fe80::1%eth0", b'{"a":' * 30000, b'{"ip": ' + b"9" * 9999 + b"}", "१".encode()),
        *(b"0.0.0.0", b"::", b'{"ip": "::"}', b"ip=0.0.0.0"),
        b'{"origin": "192.0.2.7, 192.0.2.8"}',
        b'{"origin": "192.0.2.7, 192.0.2.7"}',
        b'{"origin": "unknown, 192.0.2.7"}',
        b'{"ip": "192.0.2.7", "origin": "192.0.2.7, 192.0.2.8"}',
        b'{"ip": "192.0.2.7", "query": "192.0.2.8"}',
        *(b"ip=192.0.2.7\nip=192.0.2.8", b"ip=192.0.2.7\n<p>", b"IP=192.0.2.7", b"xip=192.0.2.7"),
        *(b"ip=192.0.2.7, 192.0.2.8", b"ip=", b"my ip=192.0.2.7"),
    ],
)
def test_anything_else_is_none(body: bytes) -> None:
    assert find_egress_ip(body) is None


@given(st.ip_addresses(), st.sampled_from(sorted(FORMATS)))
def test_every_address_is_found_in_every_format(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, form: str
) -> None:
    found = find_egress_ip(FORMATS[form](str(address)).encode())
    plain = getattr(address, "ipv4_mapped", None) or address
    assert found == (None if plain.is_unspecified else str(plain))


@given(st.dictionaries(st.sampled_from(KEYS), st.ip_addresses().map(str), min_size=1))
def test_several_addresses_are_none(said: dict[str, str]) -> None:
    plain = {find_egress_ip(one.encode()) for one in said.values()} - {None}
    found = find_egress_ip(json.dumps(said).encode())
    assert found == (next(iter(plain)) if len(plain) == 1 else None)


@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda text: b"ip=" + text.encode()))
def test_no_answer_raises(body: bytes) -> None:
    find_egress_ip(body)
