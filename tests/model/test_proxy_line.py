import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry
from egress_policy.model.list_entry import ProxyEntry
from egress_policy.model.proxy import Proxy
from egress_policy.model.proxy_line import parse_proxy_line, parse_single_proxy, require_type
from tests.helpers.conformance import load, load_list
from tests.model.test_text import UNSEEN


def parsed_entry(line: str) -> ProxyEntry:
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
        parsed = parsed_entry(vector["in"])
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
        ("203.0.113.7:80:u.v:90", {"host": "203.0.113.7", "username": "u.v", "password": "90"}),
        ("u:p:proxy.example.com:80", {"host": "proxy.example.com", "port": 80, "username": "u"}),
        ("1:2:203.0.113.7:80", {"host": "203.0.113.7", "username": "1", "password": "2"}),
        ("u:p:[::1]:80", {"host": "::1", "port": 80, "username": "u", "password": "p"}),
        ("u.v:123456:h.example:80", {"host": "h.example", "username": "u.v", "password": "123456"}),
        ("h:1080:u:p@ss", {"host": "h", "password": "p@ss"}),
        ("h:1:u:pa|ss", {"host": "h", "password": "pa|ss"}),
        ("h:1:u:hunter2:x", {"host": "h", "username": "u", "password": "hunter2:x"}),
        ("me@c.example:12:x@h.example:80", {"username": "me@c.example", "host": "h.example"}),
        ("http://u:p|a|ss@h", {"type": "http", "password": "p|a|ss", "port": 8080}),
        ("de-1 | H | 80", {"name": "de-1", "host": "h", "port": 80, "type": "socks5"}),
        ("|[::1]|80|||HTTPS", {"host": "::1", "type": "https"}),
        ("|h|80|||socks5h", {"type": "socks5"}),
        ("n|h|80||||eu|Inactive|a b", {"region": "eu", "status": "inactive", "notes": "a b"}),
        ("192.0.2.1:80|h|81", {"name": "192.0.2.1:80", "host": "h"}),
        ("n|h|80||||||no ipv6|ipv6", {"notes": "no ipv6", "family": "ipv6"}),
        ('{"host": "h", "port": 1, "username": "ipv6"}', {"username": "ipv6"}),
        ("http://ipv6:ipv4@h:80#my%69pv6", {"username": "ipv6", "password": "ipv4"}),
        ("n|h|80||||||a note|ipv6", {"notes": "a note", "family": "ipv6"}),
        ('{"host": "H", "type": "https"}', {"host": "h", "type": "https", "port": 443}),
        ('{"host": "h", "notes": "a\\nb|"}', {"type": "socks5", "notes": "a\nb|"}),
    ],
)
def test_each_form_is_recognised(line: str, fields: dict[str, object]) -> None:
    parsed = parsed_entry(line)
    assert {key: parsed[key] for key in fields} == fields


@pytest.mark.parametrize(
    ("line", "credentials"),
    [
        ("h.example:80::", {}),
        ("h.example:80:u:", {"username": "u"}),
        ("h.example:80::p", {"password": "p"}),
        ("[2001:db8::1]:80::", {}),
    ],
)
def test_empty_user_and_password_are_left_out(line: str, credentials: dict[str, str]) -> None:
    found = {
        key: value for key, value in parsed_entry(line).items() if key in ("username", "password")
    }
    assert found == credentials


def test_line_that_begins_with_host_and_port_is_about_that_host() -> None:
    first, second = (parsed_entry(line) for line in load_list("two-readings").split())
    assert (first["host"], first["port"]) == ("192.0.2.1", 3000)
    assert (first["username"], first["password"]) == ("alice", "p@ss:1234")
    assert (second["host"], second["port"]) == ("gate.example.com", 7000)
    assert (second["username"], second["password"]) == ("user-us", "k@evil.example:443")


@pytest.mark.parametrize(
    "line",
    [
        "user:8080:proxy.example.com:1080",
        "first.last:8080:proxy.example.com:1080",
        "a:80:b@host:1080",
        "user:12:34:proxy.example.com:1080",
        "192.0.2.1:3000@alice:1234",
        "192.0.2.1:3000:alice:p?family=ipv4",
        "[::1]:3000@alice:1234",
        "192.0.2.1:3000:alice:p|evil.example|80",
        "u:p|evil.example|80|x@gate.example:1080",
        "http://192.0.2.1:3000:alice:p@ss:1234",
        "socks5://gate.example.com:7000:user-us:k@evil.example:443",
        "http://[2001:db8::1]:80:u:p@ss:1",
        "gate:7000@evil.example:443",
        "alice:8080@host:80",
        "localhost:8080@203.0.113.7:443",
        "gate:7000@x:y@evil.example:443",
        "http://host:8080:user:p@ss",
        "http://localhost:8080:u@evil.example:443",
        "http://host.example:8080@evil.example:443",
        "https://gate:7000@evil.example:443#name",
    ],
)
def test_line_with_two_readings_is_rejected(line: str) -> None:
    with pytest.raises(InvalidEntry, match=r"(?i)ambiguous.*URL"):
        parse_proxy_line(line)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("proxy.example.com", "port"),
        ("http", "port"),
        ("h:", "port"),
        ("2001:db8::1:1080", "host"),
        ("2001:db8::abcd:1080", "host"),
        ("abcd:80:1:2:3:4:5:6", "host"),
        ("cafe:8080::1", "host"),
        ("cafe:8080::1:1080:u:hunter2", "host"),
        ("64:ff9b::192.0.2.1:80", "host"),
        ("cafe:80::192.0.2.1:80", "host"),
        ("u:hunter2:hunter2:h.example:80", "host"),
        ("[203.0.113.7]:80", "host"),
        ("[203.0.113.7]:80:u:hunter2", "host"),
        ("u:hunter2:localhost:80", "host"),
        ("203.0.113.7:99999:u:123", "port"),
        ("203.0.113.7:99999:u:hunter2@h.example:80", "port"),
        ("127.1:1080:u:hunter2", "host"),
        ("127.1:1080:u:hunter2@h.example:80", "host"),
        ("h.example:80:hunter2", "password"),
        ("h:x:u:hunter2@x", "port"),
        ("u:hunter2/x@h:80", "password"),
        ("n|h|hunter2", "port"),
        ("n||80|u|hunter2", "host"),
        ("n|h|80|u|x|hunter2|http", "type"),
        ("n|h|80|u|p|http|eu|hunter2", "status"),
        ("n|h|80||||eu|active|a | b", "family"),
        ("n|h|80||||||a note|IPv6", "family"),
        ("n|h|80||||||a|hunter2|ipv6", ""),
        ("u|hunter2@h:80|x", "host"),
        ("{hunter2}", ""),
        ('{"password": "hunter2"}', "host"),
        ('{"host": "h", "host": "hunter2"}', ""),
        ('{"host": "h", "type": "socks4"}', "type"),
        ('{"host": "h", "port": "80x"}', "port"),
        ('{"host": "h", "family": "IPv6"}', "family"),
    ],
)
def test_bad_line_is_rejected_by_part_and_without_the_password(line: str, field: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse_proxy_line(line)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("character", [one for one in UNSEEN if one != "\n"], ids=ascii)
@pytest.mark.parametrize(
    "line", ["{}h:80", " h{}:80", "h:80:u:p{}w", "n|h|80|u|p{}w", "http://{}@h"]
)
def test_hidden_character_is_refused_with_its_position(line: str, character: str) -> None:
    if line.startswith("{}") and character in "\t\r":
        return  # space around a line
    position = line.index("{}") + 1
    with pytest.raises(InvalidEntry, match=rf"character {position} .*U\+{ord(character):04X}"):
        parse_proxy_line(line.format(character))


def test_entry_has_what_the_line_states_and_nothing_empty() -> None:
    parsed = parsed_entry("h:80:u:p")
    stated = {"type": "socks5", "host": "h", "port": 80, "username": "u", "password": "p"}
    assert parsed == stated
    assert Proxy.model_validate({"name": "n", **parsed}).username == "u"
    assert "" not in parsed_entry("n|h|80|||||||").values()
    assert "" not in parsed_entry("http://h").values()


@pytest.mark.parametrize(
    ("line", "assumes"),
    [
        ("h:80", True),
        ("h:80:u:p", True),
        ("u:p@h:80", True),
        ("n|h|80", True),
        ("n|h|80|||http", False),
        ("http://h", False),
        ('{"host": "h"}', True),
        ('{"host": "h", "type": "http"}', False),
    ],
)
def test_entry_knows_whether_its_type_is_assumed(line: str, assumes: bool) -> None:
    assert parsed_entry(line).assumes_type == assumes
    parsed = parse_proxy_line(line, "https")
    assert parsed
    assert parsed["type"] == ("https" if assumes else "http")


def test_single_proxy_has_to_be_one() -> None:
    assert parse_single_proxy("h:1:u:p", "https")["type"] == "https"
    for nothing in ("", "# h:1", '{"host": "h", "type": "http", "password": {"set": true}}'):
        with pytest.raises(InvalidEntry):
            parse_single_proxy(nothing)


def test_type_can_be_required() -> None:
    require_type(parse_single_proxy("socks5://h:1"))
    require_type(parse_single_proxy("n|h|1|||http"))
    with pytest.raises(InvalidEntry) as caught:
        require_type(parse_single_proxy("[2001:DB8::1]:1080:u:hunter2"))
    for scheme in ("http", "https", "socks5"):
        assert f"{scheme}://[2001:db8::1]:1080" in str(caught.value)
    assert "hunter2" not in str(caught.value)


# -- no line loses its pin

PINS = ["ipv6", "IPv4", "?family=ipv6", "#family=ipv6", "family=ipv4", "|ipv6", "&family=ipv6x"]


@pytest.mark.parametrize("pin", PINS)
@pytest.mark.parametrize(
    "line",
    [
        "http://h:80#{}",
        "h:80#{}",
        "http://h:80?family=ipv4#{}",
        "x|h|80|{}",
        "x|h|80|u|{}",
        "n|h|80|u|p|http|{}",
        "n|h|80|u|p|http|us|active|{}",
        "{}|h|80",
        "1.2.3.4:80:u:{}",
        "1.2.3.4:80:{}:p",
        "h:80:u:{}",
        "{}:p:h.example:80",
        "u:{}:h.example:80",
        "1.2.3.4:80:u:p {}",
    ],
)
def test_misplaced_pin_is_refused_and_not_read_as_text(line: str, pin: str) -> None:
    for swallowed in (pin, f"name{pin}" if pin[0] in "?#|&" else f"name|{pin}"):
        text = line.format(swallowed)
        if text.startswith("#") or text.endswith(("active||ipv6", "active|name|ipv6")):
            continue  # a comment, a tenth field
        with pytest.raises(InvalidEntry):
            parse_proxy_line(text)


def test_error_about_a_misplaced_pin_says_where_to_write_it() -> None:
    with pytest.raises(InvalidEntry, match=r"\?family=ipv6 before the #.*%69"):
        parse_proxy_line("http://h:80#name?family=ipv6")
    with pytest.raises(
        InvalidEntry, match=r"its password looks like a family.*\?family=ipv6.*JSON"
    ):
        parse_proxy_line("1.2.3.4:80:u:p|ipv6")


# -- no line is about another host than it says

HOSTS = ["192.0.2.1", "gate.example.com", "[2001:db8::1]", "gate"]
words = st.text(
    st.sampled_from("ab.1|@:#?/%[]{} ") | st.characters(exclude_categories=("C", "Z")), max_size=12
)
ends = st.sampled_from(["", ":443", "@evil.example:443", "|evil.example|80", ":evil.example:80"])
secrets = st.builds("{}{}".format, words, ends)
ports = st.integers(1, 65535)


def host_of(line: str) -> object:
    """The host that a line means, ``None`` if it is refused."""
    try:
        found = parse_proxy_line(line)
    except InvalidEntry:
        return None
    return found["host"] if found else None


@pytest.mark.parametrize("piece", ["a.", "1.", "[:", "a:1:", "a|", "a@", "socks4:", "://"])
def test_time_is_linear_in_the_length_of_a_line(piece: str) -> None:
    """A line of this length once took half a minute."""
    line = f"h:x:u:{piece * 50_000}"
    assert host_of(line) is None


@given(st.sampled_from(HOSTS), ports, words, secrets)
@example("192.0.2.1", 3000, "alice", "p@ss:1234")
@example("gate.example.com", 7000, "user-us", "k@evil.example:443")
def test_line_that_begins_with_a_host_means_that_host_or_is_refused(
    host: str, port: int, username: str, password: str
) -> None:
    line = f"{host}:{port}:{username}:{password}"
    assert host_of(line) in (host.strip("[]"), None)
    for scheme in ("http", "socks5"):
        assert host_of(f"{scheme}://{line}") in (host.strip("[]"), None)


@given(st.sampled_from([*HOSTS, "alice", "user_1"]), ports, secrets)
@example("gate", 7000, "evil.example:443")
@example("192.0.2.1", 3000, "alice@evil.example:443")
@example("192.0.2.1", 3000, "|evil.example|80")
def test_host_and_port_before_an_at_are_refused_with_a_scheme_and_without(
    host: str, port: int, rest: str
) -> None:
    for before in ("", "http://", "socks5://"):
        assert host_of(f"{before}{host}:{port}@{rest}") in (host.strip("[]"), None)


users = st.text("abc@-_12é", min_size=1, max_size=8)


@pytest.mark.parametrize("before", ["", "http://", "socks5://"])
@pytest.mark.parametrize("password", ["pw8080", "123456", "0", "70000", "%38080", "8o80", "p@8080"])
def test_password_that_is_no_port_number_is_one(before: str, password: str) -> None:
    found = parsed_entry(f"{before}alice:{password}@evil.example:443")
    assert (found["host"], found["username"]) == ("evil.example", "alice")
    assert found["password"] == password.replace("%38", "8")


@given(st.sampled_from(HOSTS[:3]), ports, users, secrets.map(lambda text: text.replace("|", "")))
@example("192.0.2.1", 80, "user", "12:34")
def test_line_that_ends_with_a_host_means_that_host_or_is_refused(
    host: str, port: int, username: str, password: str
) -> None:
    for line in (f"{username}:{password}@{host}:{port}", f"{username}:{password}:{host}:{port}"):
        assert host_of(line) in (host.strip("[]"), None)


@given(st.sampled_from(HOSTS), ports, secrets.map(lambda text: text.replace("|", "")))
def test_host_between_pipes_is_the_host_or_the_line_is_refused(
    host: str, port: int, password: str
) -> None:
    line = f"a name|{host}|{port}|user|{password}|http|eu|active|notes|ipv4"
    assert host_of(line) in (host.strip("[]"), None)


fields = st.sampled_from([*Proxy.model_fields, "x"])


@given(st.dictionaries(fields, st.text() | st.integers() | st.none()))
def test_object_in_a_line_gives_an_entry_or_an_invalid_entry(item: dict[str, Any]) -> None:
    try:
        parsed = parsed_entry(json.dumps(item))
    except InvalidEntry:
        return
    assert {"type", "host", "port"} <= set(parsed)
