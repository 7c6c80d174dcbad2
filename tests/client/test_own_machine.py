"""Whether a host is this machine, as far as the system tells without a look-up."""

import errno
import socket

import pytest

from egress_policy.client.own_machine import is_own_host
from tests.helpers.own import own_addresses

NAME = socket.gethostname().lower()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.3.4.5", "::1", "0.0.0.0", "::"),
        *("localhost", "x.localhost", "a.b.localhost", NAME, f"{NAME}.local"),
        *own_addresses(),
    ],
)
def test_is_this_machine(host: str) -> None:
    assert is_own_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("198.51.100.1", "2001:db8::1", "255.255.255.255", "224.0.0.1", "ff02::1"),
        *("fe80::1%nosuch", "fe80::1", "origin.test", "localhost.test", "mylocalhost", "", "1.2.3"),
    ],
)
def test_is_not_this_machine(host: str) -> None:
    assert not is_own_host(host)


@pytest.mark.parametrize("hostname", ["web01", "Web01.Example", "ip-10-0-0-1", "a1b2c3"])
def test_its_own_name_may_end_in_a_digit(hostname: str) -> None:
    name = hostname.lower()
    for host in (name, name.partition(".")[0], f"{name}.local"):
        assert is_own_host(host, hostname)
    assert not is_own_host(f"x{name}", hostname)


@pytest.mark.parametrize(
    ("error", "own"),
    [(errno.EMFILE, True), (errno.ENOBUFS, True), (errno.ENETUNREACH, False)],
)
def test_what_the_system_cannot_say_may_be_ours(
    error: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(error, "no")

    monkeypatch.setattr(socket, "socket", fails)
    assert is_own_host("198.51.100.1") is own
