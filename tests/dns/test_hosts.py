import errno
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.dns.hosts import HostsFile, parse_hosts
from egress_policy.model.host import canonical_ip, normalize_target_host

TEXT = """\
# The usual beginning
127.0.0.1\tlocalhost
::1  localhost ip6-localhost # both of it
fe80::1%lo0 localhost

192.0.2.7   Proxy.Example. alias.example
::ffff:192.0.2.8 proxy.example
192.0.2.7 proxy.example
0.0.0.0 ads.example
192.0.2.9 b\u00fccher.example
127.1 numeric.example
not-an-address name.example
192.0.2.10
192.0.2.11 # commented.example
"""


def test_every_name_of_a_line_gets_its_address_in_file_order() -> None:
    assert parse_hosts(TEXT) == {
        "localhost": ("127.0.0.1", "::1", "fe80::1%lo0"),
        "ip6-localhost": ("::1",),
        "proxy.example": ("192.0.2.7", "192.0.2.8"),
        "alias.example": ("192.0.2.7",),
        "ads.example": ("0.0.0.0",),
        "xn--bcher-kva.example": ("192.0.2.9",),
    }


@given(st.one_of(st.text(), st.text("0123456789abc.:%# \t\n\x00\u2028", max_size=200)))
def test_any_text_gives_canonical_names_and_addresses(text: str) -> None:
    for name, addresses in parse_hosts(text).items():
        assert name == name.lower()
        assert addresses
        assert len(set(addresses)) == len(addresses)
        assert [canonical_ip(address) for address in addresses] == list(addresses)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}(\.[A-Za-z]{2,5}){0,2}\.?", fullmatch=True),
        st.lists(st.ip_addresses().map(str), min_size=1, unique=True),
    )
)
def test_what_a_file_says_is_found_under_the_canonical_name(hosts: dict[str, list[str]]) -> None:
    table = parse_hosts("\n".join(f"{ip} {name}" for name, ips in hosts.items() for ip in ips))
    for name, addresses in hosts.items():
        found = table[normalize_target_host(name)]
        assert {canonical_ip(address) for address in addresses} <= set(found)


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.7 proxy.example\n")
    hosts = HostsFile(path)
    assert hosts.addresses("proxy.example") == ("192.0.2.7",)
    assert hosts.addresses("other.example") is None
    path.write_text("192.0.2.77 proxy.example other.example\n")
    assert hosts.addresses("other.example") == ("192.0.2.77",)


def test_a_missing_file_is_empty_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = HostsFile(tmp_path / "hosts")
    with caplog.at_level(logging.WARNING):
        assert hosts.addresses("proxy.example") is None
        assert hosts.addresses("proxy.example") is None
    assert len(caplog.records) == 1
    (tmp_path / "hosts").write_text("192.0.2.7 proxy.example\n")
    assert hosts.addresses("proxy.example") == ("192.0.2.7",)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_an_unreadable_file_is_not_an_empty_one(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.7 proxy.example\n")
    known, unknown = HostsFile(path), HostsFile(path)
    assert known.addresses("proxy.example") == ("192.0.2.7",)
    path.write_text("192.0.2.77 proxy.example other.example\n")

    def fail(*_: object, **__: object) -> str:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", fail)
        assert known.addresses("proxy.example") == ("192.0.2.7",)
        assert known.addresses("other.example") is None
        for name in ("proxy.example", "elsewhere.example"):
            with pytest.raises(OSError, match=os.strerror(number)):
                unknown.addresses(name)
    for hosts in (known, unknown):
        assert hosts.addresses("other.example") == ("192.0.2.77",)


def test_bytes_that_are_no_text_spoil_their_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"192.0.2.6 \xff\xfe\n192.0.2.7 proxy.example\n")
    assert HostsFile(path).addresses("proxy.example") == ("192.0.2.7",)
