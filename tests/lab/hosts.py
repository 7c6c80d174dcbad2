"""Four hosts on one machine: network namespaces that are joined by veth pairs and go with us.

    mitm ──── proxies ──── origin        every link has IPv4 and IPv6
      ├────── origin
      └────── names

A host owns whole prefixes, so that every scenario has an address of its own. What is sent to
``LOST`` gets no answer, what is sent to ``DEAD`` is reset, and to ``AWAY`` there is no route.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal, Self

from tests.e2e.system import find, unavailable

Family = Literal["ipv4", "ipv6"]
FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")
RECORD: Mapping[Family, str] = {"ipv4": "A", "ipv6": "AAAA"}


class Range:
    """Addresses of a kind: the same number in both families."""

    def __init__(self, ipv4: str, ipv6: str) -> None:
        self._first = {"ipv4": IPv4Address(ipv4), "ipv6": IPv6Address(ipv6)}
        self.ipv4, self.ipv6 = f"{ipv4}/16", f"{ipv6}/64"

    def at(self, number: int, family: Family) -> str:
        return str(ip_address(int(self._first[family]) + number))


# Benchmarking and documentation prefixes (RFC 2544, RFC 3849): nobody else's.
PROXIES = Range("198.18.0.0", "2001:db8:1::")
ORIGIN = Range("198.19.0.0", "2001:db8:2::")
DEAD = Range("10.91.0.0", "2001:db8:4::")
LOST = Range("10.92.0.0", "2001:db8:5::")
AWAY = Range("10.93.0.0", "2001:db8:6::")
_NO_DAD = Path("/proc/sys/net/ipv6/conf/default/accept_dad")
_LOSE = f"""
table inet lose {{
  chain input {{
    type filter hook prerouting priority -300;
    ip daddr {LOST.ipv4} drop
    ip6 daddr {LOST.ipv6} drop
  }}
}}
"""
NAMES_V4 = "203.0.113.53"
OWN: Mapping[Family, tuple[str, ...]] = {
    "ipv4": ("172.31.1.1", "172.31.2.1"),
    "ipv6": ("fd00:1::1", "fd00:2::1"),
}
"""Addresses of mitmproxy's host: as its proxies see it, and as the origin does."""


class Host:
    """A network namespace without a name: it ends with its last user."""

    def __init__(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            os.unshare(os.CLONE_NEWNET)
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            os.setns(home, os.CLONE_NEWNET)
        finally:
            os.close(home)
        path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.path = path
        self.prefix = (find("nsenter"), f"--net={path}")
        """The prefix of a command that runs on this host."""

    @contextlib.contextmanager
    def entered(self) -> Iterator[Self]:
        """Put this thread, and what it starts, on this host. Nothing else may run meanwhile."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        os.setns(self.fd, os.CLONE_NEWNET)
        try:
            yield self
        finally:
            os.setns(home, os.CLONE_NEWNET)
            os.close(home)

    def run(self, *command: str, stdin: str = "") -> str:
        """The output of a command that runs on this host."""
        with self.entered():
            done = subprocess.run(command, check=False, capture_output=True, text=True, input=stdin)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def close(self) -> None:
        os.close(self.fd)


class Hosts:
    """``with Hosts() as hosts``: wired, addressed and reachable."""

    def __enter__(self) -> Self:
        self._ip = find("ip")
        try:
            self.mitm, self.proxies, self.origin, self.names = (Host() for _ in range(4))
        except OSError as error:
            unavailable(f"not permitted to make a network namespace (needs root): {error}")
        for host in (self.mitm, self.proxies, self.origin, self.names):
            host.run(self._ip, "link", "set", "lo", "up")
            with host.entered():  # nobody else could have our addresses: use them at once
                _NO_DAD.write_text("0")
        self._wire(self.mitm, self.proxies, 1)
        self._wire(self.mitm, self.origin, 2)
        self._wire(self.mitm, self.names, 3)
        self._wire(self.proxies, self.origin, 4)
        self._own(self.proxies, self.mitm, 1, PROXIES)
        self._own(self.origin, self.mitm, 2, ORIGIN)
        self._own(self.origin, self.proxies, 4, ORIGIN)
        self._own(self.names, self.mitm, 3, DEAD)
        self._route(self.origin, 4, PROXIES, end=1)
        self._route(self.mitm, 1, LOST)
        self.proxies.run(find("nft"), "-f", "-", stdin=_LOSE)
        self._ip_in(self.names, "address", "add", f"{NAMES_V4}/32", "dev", "lo")
        self._ip_in(self.mitm, "route", "add", NAMES_V4, "via", "172.31.3.2")
        return self

    def __exit__(self, *_: object) -> None:
        for host in (self.mitm, self.proxies, self.origin, self.names):
            host.close()

    def _ip_in(self, host: Host, *words: str) -> None:
        family = ["-6"] if any(":" in word for word in words) else []
        host.run(self._ip, *family, *words)

    def _wire(self, one: Host, two: Host, link: int) -> None:
        peer = ["peer", "name", f"link{link}", "netns", two.path]
        one.run(self._ip, "link", "add", f"link{link}", "type", "veth", *peer)
        for host, number in ((one, 1), (two, 2)):
            device = f"link{link}"
            self._ip_in(host, "address", "add", f"172.31.{link}.{number}/24", "dev", device)
            address = f"fd00:{link}::{number}/64"
            self._ip_in(host, "address", "add", address, "dev", device, "nodad")
            self._ip_in(host, "link", "set", device, "up")

    def _own(self, owner: Host, other: Host, link: int, addresses: Range) -> None:
        with contextlib.suppress(RuntimeError):  # it owns them already
            for prefix in (addresses.ipv4, addresses.ipv6):
                self._ip_in(owner, "route", "add", "local", prefix, "dev", "lo")
        self._route(other, link, addresses)

    def _route(self, host: Host, link: int, addresses: Range, end: int = 2) -> None:
        self._ip_in(host, "route", "add", addresses.ipv4, "via", f"172.31.{link}.{end}")
        self._ip_in(host, "route", "add", addresses.ipv6, "via", f"fd00:{link}::{end}")
