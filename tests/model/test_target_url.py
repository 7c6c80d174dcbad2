"""URLs of targets: their fields, and that nothing is dropped or quoted silently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry
from egress_policy.model.target_url import TargetUrl, parse_target_url, parse_test_url


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("http://origin.test", "http", "origin.test", 80, "/"),
        ("HTTPS://Origin.Test./a?b=c#d", "https", "origin.test", 443, "/a?b=c"),
        ("ws://origin.test?x", "ws", "origin.test", 80, "/?x"),
        ("wss://origin.test:8443/", "wss", "origin.test", 8443, "/"),
        ("http://origin.test:/", "http", "origin.test", 80, "/"),
        ("http://[2001:DB8::1]:81/", "http", "2001:db8::1", 81, "/"),
        ("http://[fe80::1%25eth0]/", "http", "fe80::1%eth0", 80, "/"),
        ("http://[::ffff:192.0.2.1]/", "http", "192.0.2.1", 80, "/"),
        ("http://127.1/", "http", "127.0.0.1", 80, "/"),
        ("https://bücher.example/ü", "https", "xn--bcher-kva.example", 443, "/ü"),
        ("http://origin.test/@x:y", "http", "origin.test", 80, "/@x:y"),
    ],
)
def test_url_is_read(text: str, scheme: str, host: str, port: int, path: str) -> None:
    url = parse_target_url(text)
    assert (url.scheme, url.host, url.port, url.path) == (scheme, host, port, path)
    assert url.is_tls is (scheme in ("https", "wss"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "origin.test", "//origin.test/", "http:/origin.test", "http://", "http:///x"),
        *("ftp://origin.test/", "socks5://s3cret:1080", "http://u:s3cret@origin.test/"),
        *("http://origin.test:0/", "http://origin.test:65536/", "http://origin.test:s3cret/"),
        *("http://[::1/", "http://[s3cret]/", "http://::1/", "http://[::1]x/", "http://./"),
        *("http://origin.test/ s3cret", "http://origin.test/\n", " http://origin.test/"),
        *("http://origin.test\\@other.test/", "http://origin.test/\t", "http://o\x00/"),
    ],
)
def test_invalid_url_is_rejected_and_not_quoted(text: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse_target_url(text)
    assert caught.value.field == "url"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("https://origin.test:443/", "origin.test"),
        ("https://origin.test:80/", "origin.test:80"),
        ("http://[2001:db8::1]/", "[2001:db8::1]"),
        ("ws://[2001:db8::1]:81/", "[2001:db8::1]:81"),
    ],
)
def test_authority_has_the_port_unless_it_is_the_default(text: str, authority: str) -> None:
    assert parse_target_url(text).authority == authority


@given(st.text(max_size=60).map(lambda text: f"http://{text}"))
def test_any_text_is_read_or_rejected(text: str) -> None:
    try:
        url = parse_target_url(text)
    except InvalidEntry:
        return
    assert parse_target_url(f"http://{url.authority}{url.path}") == url


def test_url_to_test_with_is_http() -> None:
    url = parse_test_url("https://api64.ipify.org/?format=json")
    assert url == TargetUrl("https", "api64.ipify.org", 443, "/?format=json")


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, "", "wss://origin.test/", "http://u@origin.test/", "http://origin.test/#x"),
        *("http://origin.test/ü", "http://a b/", "http://0.0.0.0/", "http://-a.test/"),
        "http://origin.test/" + "x" * 1000,
    ],
)
def test_url_to_test_with_cannot_be(value: object) -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse_test_url(value)
    assert caught.value.field == "test_url"
