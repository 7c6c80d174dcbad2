import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.dns.resolv_conf import ResolvConf, parse_resolv_conf
from tests.helpers.conformance import resolv_confs

LOCAL = "127.0.0.1"

FILES = {
    "0.0.0.0": ResolvConf((LOCAL,)),
    "4_servers": ResolvConf(("192.0.2.1", "192.0.2.2", "192.0.2.3", LOCAL)),
    "bad_address": ResolvConf((LOCAL,), problems=("line 1: '300.1.2.3' is not an IP address",)),
    "bom": ResolvConf((LOCAL,)),
    "comment_behind": ResolvConf((LOCAL,)),
    "crlf": ResolvConf((LOCAL,)),
    "k8s": ResolvConf((LOCAL,)),
    "latin1": ResolvConf((LOCAL,)),
    "ll_without_scope": ResolvConf(
        (LOCAL,), problems=("line 1: fe80::1 needs its interface, as in fe80::1%eth0",)
    ),
    "localhost_then_ip": ResolvConf(
        (LOCAL,), problems=("line 1: 'localhost' is not an IP address",)
    ),
    "nameserver_bare": ResolvConf((LOCAL,), problems=("line 1: the address is missing",)),
    "options": ResolvConf(
        (LOCAL,),
        attempts=3,
        rotate=True,
        tcp=True,
        problems=("the option timeout is not a number above 0",),
    ),
    "options_ndots_bad": ResolvConf(
        (LOCAL,), problems=("the option timeout is not a number above 0",)
    ),
    "scoped": ResolvConf(("fe80::1%lo", LOCAL)),
    "scoped_dead_iface": ResolvConf(("fe80::1%nosuch0", LOCAL)),
    "search": ResolvConf((LOCAL,)),
    "semicolon": ResolvConf((LOCAL,)),
    "tabs": ResolvConf((LOCAL,)),
}


@pytest.mark.parametrize("path", resolv_confs(), ids=lambda path: path.stem)
def test_files_of_real_machines(path: Path) -> None:
    assert parse_resolv_conf(path.read_bytes()) == FILES[path.stem]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"# nameserver 192.0.2.1\n", b"search example\noptions edns0 trust-ad\n"],
)
def test_a_file_that_names_no_server_means_loopback_as_for_the_c_library(content: bytes) -> None:
    assert parse_resolv_conf(content) == ResolvConf((LOCAL,))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"nameserver", "the address is missing"),
        (b"nameserver dns.example", "'dns.example' is not an IP address"),
        (b"nameserver 127.1", "'127.1' is not an IP address"),
        (b"nameserver 010.1.1.1", "'010.1.1.1' is not an IP address"),
        (b"nameserver 192.0.2.1:53", "'192.0.2.1:53' is not an IP address"),
        (b"nameserver 192.0.2.1#53", "'192.0.2.1#53' is not an IP address"),
        (b"nameserver \xfc\x00\x1b", r"'\xfc\x00\x1b' is not an IP address"),
        (b"nameserver " + b"9" * 99, f"'{'9' * 60}' is not an IP address"),
        (b"nameserver 224.0.0.251", "224.0.0.251 is not the address of one machine"),
        (b"nameserver ff02::fb", "ff02::fb is not the address of one machine"),
    ],
)
def test_a_file_with_no_usable_server_means_loopback_as_for_the_c_library(
    content: bytes, why: str
) -> None:
    assert parse_resolv_conf(content) == ResolvConf((LOCAL,), problems=(f"line 1: {why}",))


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("::", "::1"),
        ("::ffff:0.0.0.0", LOCAL),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::53", "2001:db8::53"),
        ("fe80::1%2", "fe80::1%2"),
        ("2001:db8::53%eth0", "2001:db8::53"),
    ],
)
def test_addresses_in_their_canonical_form(address: str, server: str) -> None:
    assert parse_resolv_conf(f"nameserver {address}".encode()).servers == (server,)


@pytest.mark.parametrize("line", ["  nameserver 192.0.2.1 ", "NameServer\t192.0.2.1 192.0.2.2"])
def test_a_plain_intent_is_taken(line: str) -> None:
    assert parse_resolv_conf(line.encode()) == ResolvConf(("192.0.2.1",))


def test_lines_may_end_as_on_any_system() -> None:
    content = b"nameserver 192.0.2.1\rnameserver 192.0.2.2\r\nnameserver 192.0.2.3"
    assert parse_resolv_conf(content).servers == ("192.0.2.1", "192.0.2.2", "192.0.2.3")


def test_an_unknown_keyword_is_a_problem_but_keywords_for_the_system_are_none() -> None:
    content = b"domain a\nsearch b c\nsortlist 192.0.2.0\nnameservers 192.0.2.1\nlookup file bind\n"
    assert parse_resolv_conf(content) == ResolvConf(
        (LOCAL,), problems=("line 4: unknown keyword 'nameservers'",)
    )


@pytest.mark.parametrize(
    ("options", "timeout", "attempts"),
    [
        ("timeout:1 attempts:1", 1, 1),
        ("timeout:30 attempts:5", 30, 5),
        ("timeout:31 attempts:6", 30, 5),
        ("timeout:9999999999", 5, 2),
        ("timeout:-1 attempts:0", 5, 2),
        ("timeout attempts:", 5, 2),
        ("timeout:1 timeout:2", 2, 2),
        ("ndots:5", 5, 2),
    ],
)
def test_options_have_the_limits_of_the_c_library(
    options: str, timeout: float, attempts: int
) -> None:
    conf = parse_resolv_conf(f"options {options}".encode())
    assert (conf.timeout, conf.attempts) == (timeout, attempts)


def test_options_may_stand_on_several_lines() -> None:
    conf = parse_resolv_conf(b"options rotate timeout:1\noptions use-vc\n")
    assert conf == ResolvConf((LOCAL,), timeout=1, rotate=True, tcp=True)


pieces = st.sampled_from(
    [
        *(b"nameserver", b"options", b"search", b"#", b";", b"\xef\xbb\xbf", b"\xff", b"\x00"),
        *(b"0.0.0.0", b"::", b"fe80::1%lo", b"timeout:", b"attempts:7", b"rotate"),
        *(b" ", b"\t", b"\r", b"\n"),
    ]
)


@given(st.one_of(st.binary(), st.lists(st.one_of(pieces, st.binary(max_size=4))).map(b"".join)))
def test_any_bytes_make_servers_that_can_be_asked(content: bytes) -> None:
    conf = parse_resolv_conf(content)
    for server in map(ipaddress.ip_address, conf.servers):
        assert not server.is_unspecified
        assert not server.is_multicast
    assert 1 <= conf.timeout <= 30
    assert 1 <= conf.attempts <= 5
    assert all(problem.isprintable() for problem in conf.problems)
    assert conf.servers


@given(st.lists(st.binary().filter(lambda line: b"nameserver" not in line.lower())), st.data())
def test_a_good_line_is_used_whatever_surrounds_it(lines: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(lines)))
    lines.insert(place, b"nameserver 192.0.2.53")
    assert parse_resolv_conf(b"\n".join(lines)).servers == ("192.0.2.53",)
