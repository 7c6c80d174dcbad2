from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.model.nameserver import parse_nameserver
from egress_policy.model.settings import (
    DEFAULT_CONFDIR,
    OPTIONS,
    Listen,
    Settings,
    parse_settings,
)


def settings(environ: dict[str, str] | None = None, **values: object) -> Settings:
    return parse_settings({f"egress_{key}": value for key, value in values.items()}, environ or {})


def test_options_have_types_that_mitmproxy_takes_and_defaults_of_them() -> None:
    origins = {str: str, int: int, bool: bool, Sequence[str]: tuple}
    for option in OPTIONS:
        assert type(option.default) is origins[option.type], option.name
        assert option.help


def test_nothing_set_means_the_documented_defaults() -> None:
    assert settings() == Settings(
        policy=None,
        default="direct",
        dns=(),
        dns_timeout=3.0,
        hosts_file=Path("/etc/hosts"),
        socks5=True,
        registry=str(DEFAULT_CONFDIR / "egress.db"),
        listen=Listen("127.0.0.1", 20128),
        token_file=DEFAULT_CONFDIR / "egress-token",
        comment=True,
        log="all",
    )


def test_declared_defaults_are_legal_values() -> None:
    assert parse_settings({option.name: option.default for option in OPTIONS}, {}) == settings()


def test_home_is_expanded_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert settings(policy="~/p.yaml").policy == Path("/home/somebody/p.yaml")
    assert settings(hosts_file="").hosts_file is None


def test_what_lies_in_the_confdir_is_found_in_any(tmp_path: Path) -> None:
    found = parse_settings({}, {}, tmp_path)
    assert found.registry == str(tmp_path / "egress.db")
    assert found.token_file == tmp_path / "egress-token"


def test_registry_may_be_a_url_memory_or_none() -> None:
    for place in ("postgresql+psycopg://u:p@db.example/egress", ":memory:", ""):
        assert settings(registry=place).registry == place


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:0", "127.0.0.1:0", True),
        ("localhost:20128", "127.0.0.1:20128", True),
        ("[::1]:20128", "[::1]:20128", True),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", True),
        ("192.0.2.1:20128", "192.0.2.1:20128", False),
        ("[::]:20128", "[::]:20128", False),
    ],
)
def test_place_to_listen_at_is_canonical(text: str, shown: str, loopback: bool) -> None:
    place = settings(listen=text).listen
    assert place is not None
    assert str(place) == shown
    assert place.is_loopback is loopback
    assert settings(listen="").listen is None


def test_nameservers_are_checked_and_canonical() -> None:
    dns = settings(dns=["192.0.2.53", "[::1]:5354"]).dns
    assert [parse_nameserver(text) for text in dns] == [
        parse_nameserver("192.0.2.53"),
        parse_nameserver("[::1]:5354"),
    ]


def test_dns_part_changes_with_what_a_resolver_depends_on() -> None:
    assert settings(default="refuse").dns_part == settings().dns_part
    for change in ({"dns": ["192.0.2.53"]}, {"dns_timeout_ms": 5}, {"hosts_file": ""}):
        assert settings(**change).dns_part != settings().dns_part


@pytest.mark.parametrize("value", ["false", "0", "no", " OFF\n", "False"])
def test_environment_can_forbid_socks5(value: str) -> None:
    assert not settings({"ENABLE_SOCKS5_PROXY": value}).socks5


@pytest.mark.parametrize("value", ["", "true", "1", "nope"])
def test_environment_cannot_allow_what_the_option_forbids(value: str) -> None:
    assert settings({"ENABLE_SOCKS5_PROXY": value}).socks5
    assert not settings({"ENABLE_SOCKS5_PROXY": value}, socks5=False).socks5


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("default", "Direct", "direct nor refuse"),
        ("dns", ["192.0.2.53", "nowhere:x"], "nowhere"),
        ("dns", "192.0.2.53", "list of nameservers"),
        ("dns", 5, "list of nameservers"),
        ("dns_timeout_ms", 0, "1 to 60000"),
        ("dns_timeout_ms", 60001, "1 to 60000"),
        ("dns_timeout_ms", True, "1 to 60000"),
        ("dns_timeout_ms", "3000", "1 to 60000"),
        ("socks5", "false", "true or false"),
        ("policy", 5, "must be a text"),
        ("policy", "a\0b", "NUL"),
        ("policy", "~no-such-user-here/p.yaml", "home directory"),
        ("registry", 5, "must be a text"),
        ("listen", "20128", "127.0.0.1:20128"),
        ("listen", "proxy.example:20128", "127.0.0.1:20128"),
        ("listen", "::1:20128", "127.0.0.1:20128"),
        ("listen", "127.0.0.1:65536", "0 to 65535"),
        ("listen", "127.0.0.1:-1", "127.0.0.1:20128"),
        ("polcy", "p.yaml", "egress_policy"),
    ],
)
def test_error_for_a_bad_value_names_the_option_and_legal_values(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidEntry, match=message) as caught:
        settings(**{name: value})
    assert caught.value.field == f"egress_{name}"
    assert str(caught.value).startswith(f"egress_{name}: ")


def test_options_of_others_are_none_of_our_business() -> None:
    assert parse_settings({"listen_port": "x"}, {}) == settings()
