from typing import Any

import pytest
from pydantic import ValidationError

from egress_policy.model.proxy import DEFAULT_PORTS, Proxy, ProxyType
from tests.helpers.conformance import load


def proxy(**fields: Any) -> Proxy:
    return Proxy.model_validate({"name": "p", "host": "proxy.example.com"} | fields)


def rejected(**fields: Any) -> list[tuple[str, str]]:
    """The key and message of each error."""
    with pytest.raises(ValidationError) as caught:
        proxy(**fields)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    details = caught.value.errors(include_input=False)
    assert "hunter2" not in str(details)
    return [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in details]


@pytest.mark.parametrize(("type_", "port"), DEFAULT_PORTS.items())
def test_port_defaults_to_the_port_of_the_type(type_: ProxyType, port: int) -> None:
    assert proxy(type=type_).port == port
    assert proxy(type=type_, port=80).port == 80


def test_least_entry_is_an_active_open_http_proxy() -> None:
    value = proxy()
    assert value.model_dump(exclude={"password"}) == {
        "name": "p",
        "type": "http",
        "host": "proxy.example.com",
        "port": 8080,
        "family": "auto",
        "username": "",
        "target_family": None,
        "plain_http": "forward",
        "region": "",
        "notes": "",
        "status": "active",
        "health": "watch",
        "max_connections": 0,
        "exit_family": None,
        "exit_in": (),
        "exit_enforce": False,
        "tags": (),
    }
    assert value.password.get_secret_value() == ""


def test_text_fields_are_made_canonical() -> None:
    value = proxy(name=" de-1\n", host="Bücher.Example.")
    assert (value.name, value.host) == ("de-1", "xn--bcher-kva.example")


def test_limits_themselves_are_accepted() -> None:
    proxy(name="n" * 120, port=65535, region="r" * 64, notes="n\n\t" + "n" * 997)
    proxy(type="socks5", username="é" * 127 + "e", password="p" * 255)
    proxy(type="socks5", username="u", password="")
    proxy(type="https", username="", password="p", plain_http="connect", target_family="ipv6")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("name", v) for v in ("", " ", "n" * 121, "a\nb", "a\x1b[2J", "\ud800", 1, None)),
        *(("type", v) for v in ("socks4", "HTTP", "", ["http"], None)),
        *(("host", v) for v in ("", "u@h", "h:1", "h/p", "0.0.0.0", "127.1", 1, None)),
        *(("port", v) for v in (0, 65536, -1, "80", 80.0, True, None, [80])),
        *(("username", v) for v in ("a\0b", "\ud800", 1, None)),
        *(("password", v) for v in ("hunter2\n", "hunter2\ud800", 1, None)),
        *(("target_family", v) for v in ("auto", "IPv6", "")),
        *(("plain_http", v) for v in ("tunnel", None)),
        *(("region", v) for v in ("r" * 65, "a\nb")),
        *(("notes", v) for v in ("n" * 1001, "\x1b[2J", "\ud800")),
        *(("status", v) for v in ("dead", "Active", None)),
        *(("health", v) for v in ("ignored", True, None)),
        *(("max_connections", v) for v in (-1, 1_000_001, "5", True, 1.5, None)),
        *(("exit_family", v) for v in ("auto", "IPv6", "")),
        *(("exit_in", v) for v in ("192.0.2.0/24", ["192.0.2.0/24"] * 101, None)),
        *(("exit_enforce", v) for v in (1, "true", None)),
        *(("tags", v) for v in ("eu", ["t"] * 21, None)),
        ("secret", "hunter2"),
    ],
)
def test_bad_value_is_the_one_complaint(key: str, value: object) -> None:
    fields = {"password": "hunter2"} | {key: value}
    assert [where for where, _ in rejected(**fields)] == [key]


@pytest.mark.parametrize("vector", load("family_strict"), ids=lambda v: repr(v["in"]))
def test_family_is_read_strictly(vector: dict[str, Any]) -> None:
    if "error" in vector:
        assert [where for where, _ in rejected(family=vector["in"])] == ["family"]
    else:
        assert proxy(family=vector["in"]).family == vector["out"]


@pytest.mark.parametrize(
    ("host", "family", "literal"),
    [
        ("203.0.113.7", "ipv6", "IPv4"),
        ("::ffff:203.0.113.7", "ipv6", "IPv4"),
        ("[2001:db8::1]", "ipv4", "IPv6"),
    ],
)
def test_literal_of_the_other_family_is_rejected(host: str, family: str, literal: str) -> None:
    [(_, message)] = rejected(host=host, family=family, password="hunter2")
    assert f"Proxy family directive {family} contradicts {literal} literal host" in message


@pytest.mark.parametrize(
    ("username", "password"),
    [("", "hunter2"), ("u" * 256, "hunter2"), ("é" * 128, "hunter2"), ("u", "p" * 256)],
)
def test_socks5_takes_credentials_in_its_limits(username: str, password: str) -> None:
    [(_, message)] = rejected(type="socks5", username=username, password=password)
    assert "socks5" in message
    assert proxy(type="http", username=username, password=password).username == username


def test_plain_http_mode_is_not_for_socks5() -> None:
    [(_, message)] = rejected(type="socks5", plain_http="connect")
    assert "plain_http" in message
    assert proxy(type="socks5", plain_http="forward").plain_http == "forward"


def test_value_is_frozen_and_hashable() -> None:
    value = proxy(password="hunter2")
    with pytest.raises(ValidationError):
        value.port = 1  # type: ignore[misc]
    assert value == proxy(password="hunter2") != proxy(password="other")
    assert hash(value) == hash(proxy(password="hunter2"))


def test_no_rendering_shows_the_password() -> None:
    value = proxy(username="alice", password="hunter2")
    assert (
        "hunter2"
        not in repr(value) + str(value) + str(value.model_dump()) + value.model_dump_json()
    )


def test_anything_but_an_object_is_rejected() -> None:
    with pytest.raises(ValidationError):
        Proxy.model_validate("proxy.example.com")


# -- the expected exit


@pytest.mark.parametrize("network", ["192.0.2.1/24", "", "home", "::ffff:0:0/95x", 7, None])
def test_network_of_exits_that_is_none_is_named_by_its_place(network: object) -> None:
    assert [where for where, _ in rejected(exit_in=["192.0.2.0/24", network])] == ["exit_in.1"]


def test_networks_of_exits_are_canonical() -> None:
    value = proxy(exit_in=["::ffff:192.0.2.0/120", "198.51.100.7", "2001:DB8::/32"])
    assert [str(one) for one in value.exit_in] == [
        "192.0.2.0/24",
        "198.51.100.7/32",
        "2001:db8::/32",
    ]


@pytest.mark.parametrize(
    ("family", "networks", "fits"),
    [
        (None, ["192.0.2.0/24", "2001:db8::/32"], True),
        ("ipv4", ["192.0.2.0/24", "::ffff:198.51.100.0/120"], True),
        ("ipv6", ["2001:db8::/32"], True),
        ("ipv6", ["2001:db8::/32", "192.0.2.0/24"], False),
        ("ipv4", ["2001:db8::/32"], False),
        ("ipv6", ["::ffff:192.0.2.1"], False),
    ],
)
def test_networks_of_exits_are_of_the_expected_family(
    family: str | None, networks: list[str], fits: bool
) -> None:
    fields = {"exit_family": family, "exit_in": networks}
    if fits:
        assert proxy(**fields).exit_family == family
    else:
        [(_, message)] = rejected(**fields)
        assert f"but exit_family is {family}" in message


def test_exit_is_enforced_only_where_one_is_expected() -> None:
    [(_, message)] = rejected(exit_enforce=True)
    assert "exit_enforce needs an expected exit: give exit_family or exit_in too" in message
    assert proxy(exit_enforce=True, exit_family="ipv6").exit_enforce
    assert proxy(exit_enforce=True, exit_in=["192.0.2.1"]).exit_enforce
