import re
import socket
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egress_policy.errors import EgressError, InvalidEntry
from egress_policy.model.family import FamilyNumber, ProxyFamily
from egress_policy.model.host import (
    canonical_ip,
    connect_family,
    detect_ip_literal_family,
    is_target_host,
    normalize_target_host,
    url_host,
    validate_proxy_host,
)
from tests.helpers.conformance import load

LABEL_63 = "a" * 63


@pytest.mark.parametrize("vector", load("ip_literal"), ids=lambda v: v["in"])
def test_literal_family_follows_the_vectors(vector: dict[str, Any]) -> None:
    assert detect_ip_literal_family(vector["in"]) == vector["out"]


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("::ffff:203.0.113.7%eth0", "203.0.113.7"),
        ("FE80::1%Eth0", "fe80::1%Eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),
        ("[fe80::1%2525]", "fe80::1%25"),
        ("fe80::1%25", "fe80::1%25"),
        ("fe80::1%251", "fe80::1%251"),
        ("febf::1%eth0", "febf::1%eth0"),
        ("::1%1", "::1"),
        ("[::1%25lo]", "::1"),
        ("2001:db8::1%eth0", "2001:db8::1"),
        ("fec0::1%eth0", "fec0::1"),
    ],
)
def test_literal_has_one_spelling(text: str, literal: str) -> None:
    assert canonical_ip(text) == literal
    assert canonical_ip(literal) == literal
    assert canonical_ip(url_host(literal)) == literal


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "[::1", "::1]", "[[::1]]", "010.1.1.1", "127.1", "1.2.3.4%eth0", "fe80::1%"),
        *("[fe80::1%25]", "fe80::1%a b", "fe80::1%a/b", "fe80::1%é", "::1%a b", "::1 ", "example"),
    ],
)
def test_anything_else_is_no_literal(text: str) -> None:
    assert canonical_ip(text) is None


@pytest.mark.parametrize(
    ("host", "family", "number"),
    [
        ("proxy.example.com", "auto", None),
        ("proxy.example.com", "ipv4", 4),
        ("proxy.example.com", "ipv6", 6),
        ("203.0.113.7", "auto", 4),
        ("203.0.113.7", "ipv4", 4),
        ("2001:db8::1", "auto", 6),
        ("2001:db8::1", "ipv6", 6),
        ("::ffff:203.0.113.7", "ipv4", 4),
    ],
)
def test_directive_and_host_give_the_family(
    host: str, family: ProxyFamily, number: FamilyNumber | None
) -> None:
    assert connect_family(host, family) == number


@pytest.mark.parametrize(
    ("host", "family", "literal"),
    [
        ("203.0.113.7", "ipv6", "IPv4"),
        ("::ffff:203.0.113.7", "ipv6", "IPv4"),
        ("2001:db8::1", "ipv4", "IPv6"),
        ("fe80::1%eth0", "ipv4", "IPv6"),
    ],
)
def test_literal_of_the_other_family_is_a_contradiction(
    host: str, family: ProxyFamily, literal: str
) -> None:
    with pytest.raises(EgressError) as caught:
        connect_family(host, family)
    assert (
        str(caught.value) == f"Proxy family directive {family} contradicts {literal} literal host"
    )
    assert caught.value.reason == "literal_contradiction"


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("PROXY.Example.COM", "proxy.example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("bücher.example.", "xn--bcher-kva.example"),
        ("Bücher\u3002example\u3002", "xn--bcher-kva.example"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7.", "203.0.113.7"),
        ("\uff12\uff10\uff13.0.113.7", "203.0.113.7"),
        ("under_score.example", "under_score.example"),
        ("É" + LABEL_63, "é" + LABEL_63),
        ("\ud800", "\ud800"),
        ("", ""),
        ("..", ""),
    ],
)
def test_target_host_is_made_canonical(host: str, canonical: str) -> None:
    assert normalize_target_host(host) == canonical


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("2130706433", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.257", "127.0.1.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("4294967296", "4294967296"),
        ("256.1.1.1", "256.1.1.1"),
        ("089.1", "089.1"),
        ("1.2.3.4.5", "1.2.3.4.5"),
        ("127..1", "127..1"),
    ],
)
def test_target_host_is_the_address_that_would_be_dialled(host: str, canonical: str) -> None:
    assert normalize_target_host(host) == canonical


_NUMBER = st.from_regex(r"0x[0-9a-f]{0,9}|[0-9]{1,11}", fullmatch=True)


@given(st.lists(_NUMBER, min_size=1, max_size=5).map(".".join))
def test_numeric_target_host_agrees_with_the_system(host: str) -> None:
    try:
        system = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        system = host
    assert normalize_target_host(host) == system


@given(st.text())
@example("İ.example")
@example("\u2488com")
def test_target_host_never_raises_and_is_stable(host: str) -> None:
    canonical = normalize_target_host(host)
    assert normalize_target_host(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("proxy.example.com", "proxy.example.com"),
        ("Proxy_1.Example.COM.", "proxy_1.example.com"),
        ("squid", "squid"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--fa-hia.example", "xn--fa-hia.example"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("ff02::1", "ff02::1"),
        (f"{LABEL_63}.example", f"{LABEL_63}.example"),
        (".".join([LABEL_63] * 3 + ["a" * 61]), ".".join([LABEL_63] * 3 + ["a" * 61])),
    ],
)
def test_proxy_host_is_made_canonical(text: str, host: str) -> None:
    assert validate_proxy_host(text) == host
    assert validate_proxy_host(host) == host


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "a..b", ".a", "a..", "-a", "a-", "exam ple.com", " proxy", "proxy\n"),
        *("user@proxy", "proxy:80", "proxy/path", "http://proxy", "proxy?x", "proxy#x", "pro\\xy"),
        *("0.0.0.0", "::", "[::]", "::ffff:0.0.0.0", "::%eth0", "\uff10.0.0.0"),
        *("0x7f.1", "0x", "2130706433", "127.1", "010.1.1.1", "203.0.113.07", "256.1.1.1"),
        *("1.2.3.4.5", "example.1", "\uff11\uff12\uff17.1", "127.1."),
        *(f"{LABEL_63}a.example", ".".join([LABEL_63] * 3 + ["a" * 62]), "é" * 60),
        *("[::1", "[proxy.example.com]", "fe80::1%a/b", "1.2.3.4%eth0", "\u2100.example", "\ud800"),
        *("faß.example", "ας.example", "a\u200db.example", "[203.0.113.7]", "[]"),
    ],
)
def test_anything_but_a_plain_host_is_rejected(text: str) -> None:
    with pytest.raises(InvalidEntry, match="host") as caught:
        validate_proxy_host(text)
    assert caught.value.field == "host"
    assert caught.value.status == 400


def test_message_does_not_quote_what_may_be_a_password() -> None:
    with pytest.raises(InvalidEntry) as caught:
        validate_proxy_host("alice:hunter2@proxy.example.com")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("piece", ["1.", "a.", "\u00e9."])
def test_host_of_any_length_is_rejected_before_it_costs_time(piece: str) -> None:
    with pytest.raises(InvalidEntry, match="longer than 253"):
        validate_proxy_host(piece * 100_000 + "example")


@given(st.text())
def test_accepted_proxy_host_is_a_stable_target_host(text: str) -> None:
    try:
        host = validate_proxy_host(text)
    except InvalidEntry:
        return
    assert validate_proxy_host(host) == normalize_target_host(host) == host


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("proxy.example.com", "proxy.example.com"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("fe80::1%eth0", "[fe80::1%25eth0]"),
    ],
)
def test_url_host_has_brackets_for_ipv6(host: str, written: str) -> None:
    assert url_host(host) == written


@pytest.mark.parametrize(
    ("host", "right"),
    [
        *(
            (host, True)
            for host in ("a", "a.b", "under_score.test", "-a-.test", "xn--bcher-kva.de")
        ),
        *((host, True) for host in ("192.0.2.1", "::1", "fe80::1%eth0", "a" * 63 + ".test")),
        *(
            (host, False)
            for host in ("", "*", ".", "a..b", ".a", "a b", "a/b", "a@b", "a:80", "a%b")
        ),
        *(
            (host, False)
            for host in ("a" * 64 + ".test", "a.1", "1.2.3.4.5", "08.1.1.1", "b\xfc.de")
        ),
        (".".join(["a" * 63] * 4), False),
    ],
)
def test_a_target_is_a_literal_or_a_host_name(host: str, right: bool) -> None:
    assert is_target_host(host) is right


@given(st.text(max_size=300))
def test_every_valid_target_is_a_literal_or_a_plain_name(text: str) -> None:
    host = normalize_target_host(text)
    if is_target_host(host):
        assert canonical_ip(host) or re.fullmatch(r"[a-z0-9._-]{1,253}", host)
