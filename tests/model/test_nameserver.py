import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry
from egress_policy.model.nameserver import Nameserver, parse_nameserver


@pytest.mark.parametrize(
    ("text", "nameserver"),
    [
        ("192.0.2.53", Nameserver("dns", "192.0.2.53", 53)),
        ("127.0.0.1:5354", Nameserver("dns", "127.0.0.1", 5354)),
        ("2001:DB8:0::1", Nameserver("dns", "2001:db8::1", 53)),
        ("[2001:db8::1]", Nameserver("dns", "2001:db8::1", 53)),
        ("[::1]:5354", Nameserver("dns", "::1", 5354)),
        ("::ffff:192.0.2.53", Nameserver("dns", "192.0.2.53", 53)),
        ("fe80::1%eth0", Nameserver("dns", "fe80::1%eth0", 53)),
        ("[fe80::1%eth0]:5354", Nameserver("dns", "fe80::1%eth0", 5354)),
        ("tls://192.0.2.53", Nameserver("tls", "192.0.2.53", 853)),
        ("TLS://[::1]:8853", Nameserver("tls", "::1", 8853)),
        ("tls://192.0.2.53#DNS.Example.", Nameserver("tls", "192.0.2.53", 853, "dns.example")),
        ("tls://::1#dns.example", Nameserver("tls", "::1", 853, "dns.example")),
        (
            "https://dns.example/dns-query",
            Nameserver("https", "dns.example", 443, path="/dns-query"),
        ),
        (
            "https://[2001:db8::1]:8443/q?ct&n=/",
            Nameserver("https", "2001:db8::1", 8443, path="/q?ct&n=/"),
        ),
        ("https://192.0.2.53/", Nameserver("https", "192.0.2.53", 443, path="/")),
    ],
)
def test_legal_forms(text: str, nameserver: Nameserver) -> None:
    assert parse_nameserver(text) == nameserver
    assert parse_nameserver(str(nameserver)) == nameserver


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "IP address"),
        (" 192.0.2.53", "IP address"),
        ("dns.example", "IP address"),
        ("dns.example:53", "IP address"),
        ("127.1", "IP address"),
        ("2130706433", "IP address"),
        ("0.0.0.0", "IP address"),
        ("[::]:53", "IP address"),
        ("udp://192.0.2.53", "scheme"),
        ("2001:db8::1:99999", "brackets"),
        ("::ffff:192.0.2.53:53", "brackets"),
        ("192.0.2.53:", "port"),
        ("192.0.2.53:0", "port"),
        ("192.0.2.53:65536", "port"),
        ("192.0.2.53:+53", "port"),
        ("192.0.2.53:5_3", "port"),
        ("192.0.2.53:\u0665\u0663", "port"),
        ("192.0.2.53:" + "9" * 5000, "port"),
        ("tls://", "IP address"),
        ("tls://dns.example", "IP address"),
        ("tls://192.0.2.53#", "empty"),
        ("tls://192.0.2.53#a b", "hostname"),
        ("https://", "path"),
        ("https://dns.example", "path"),
        ("https:///dns-query", "empty"),
        ("https://dns.example/dns-query{?dns}", "template"),
        ("https://dns.example/dns query", "space"),
        ("https://dns.example/dns\nquery", "space"),
        ("https://dns.example/dns-query#x", "fragment"),
        ("https://dns.example:0/dns-query", "port"),
        ("http://dns.example/dns-query", "scheme"),
    ],
)
def test_anything_else_names_the_part_and_the_legal_forms(text: str, part: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse_nameserver(text)
    assert caught.value.field == "nameserver"
    for word in (repr(text), part, "192.0.2.53:5354", "tls://", "https://dns.example/dns-query"):
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["https://u:secret@dns.example/", "https://u@dns.example/"])
def test_credentials_are_rejected_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidEntry, match="Invalid nameserver: ") as caught:
        parse_nameserver(text)
    assert "secret" not in str(caught.value)
    assert "u@" not in str(caught.value)


@given(
    st.one_of(
        st.text(),
        st.text("0123456789.:[]%#/@abcdeftlshp?{ \n", max_size=40),
        st.builds("".join, st.tuples(st.sampled_from(["tls://", "https://"]), st.text())),
        st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(-1, 70000)),
        st.builds("[{}]:{}".format, st.ip_addresses(v=6), st.integers(-1, 70000)),
        st.builds("tls://{}#{}".format, st.ip_addresses(), st.text("ab.-", max_size=9)),
    )
)
def test_every_text_is_rejected_or_survives_the_round_trip(text: str) -> None:
    try:
        nameserver = parse_nameserver(text)
    except InvalidEntry:
        return
    assert parse_nameserver(str(nameserver)) == nameserver
    assert 0 < nameserver.port < 65536
