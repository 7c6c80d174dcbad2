"""The egress IP in an answer: a literal or nothing, whatever the answer is."""

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.client.egress_ip import find_egress_ip


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"\n 2001:DB8:0::1\r\n", "2001:db8::1"),
        (b'{"ip":"192.0.2.7","country":"x"}', "192.0.2.7"),
        (b' {"ip": "::ffff:192.0.2.7"}', "192.0.2.7"),
    ],
)
def test_literal_is_found_in_its_one_spelling(body: bytes, found: str) -> None:
    assert find_egress_ip(body) == found


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"origin.test", b"127.1", b"192.0.2.7 192.0.2.8", b"<p>192.0.2.7</p>", b"\xff"),
        *(b"{", b"{}", b'{"ip": 1}', b'{"ip": null}', b'{"origin": "192.0.2.7"}', b'["192.0.2.7"]'),
        *(b"fe80::1%eth0", b'{"a":' * 30000, b'{"ip": ' + b"9" * 9999 + b"}", "१".encode()),
    ],
)
def test_anything_else_is_none(body: bytes) -> None:
    assert find_egress_ip(body) is None


@given(st.ip_addresses())
def test_every_address_is_found(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    plain = find_egress_ip(str(address).encode())
    assert plain
    mapped = getattr(address, "ipv4_mapped", None)
    assert ipaddress.ip_address(plain) == (
        mapped or ipaddress.ip_address(str(address).split("%")[0])
    )
    assert find_egress_ip(json.dumps({"ip": str(address)}).encode()) == plain


@given(st.binary(max_size=200))
def test_no_answer_raises(body: bytes) -> None:
    find_egress_ip(body)
