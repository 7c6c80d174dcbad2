"""Counts what a host sends, by nftables: TCP SYN and UDP by family and destination.

Packets are counted before a firewall redirects them (priority of destination NAT: -100).
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from tests.e2e.system import find
from tests.lab.hosts import Family, Host

_RULES = """
table inet lab {
  set syn4 { type ipv4_addr . inet_service; flags dynamic; size 65535; }
  set syn6 { type ipv6_addr . inet_service; flags dynamic; size 65535; }
  set udp4 { type ipv4_addr . inet_service; flags dynamic; size 65535; }
  set udp6 { type ipv6_addr . inet_service; flags dynamic; size 65535; }
  set within4 { type ipv4_addr . inet_service; flags dynamic; size 65535; }
  set within6 { type ipv6_addr . inet_service; flags dynamic; size 65535; }
  chain within {
    tcp flags & (syn | ack) != syn return
    meta nfproto ipv4 meta l4proto tcp update @within4 { ip daddr . tcp dport counter }
    meta nfproto ipv6 meta l4proto tcp update @within6 { ip6 daddr . tcp dport counter }
  }
  chain output {
    type filter hook output priority -150;
    oifname "lo" goto within
    meta nfproto ipv4 tcp flags & (syn | ack) == syn update @syn4 { ip daddr . tcp dport counter }
    meta nfproto ipv6 tcp flags & (syn | ack) == syn update @syn6 { ip6 daddr . tcp dport counter }
    meta nfproto ipv4 meta l4proto udp update @udp4 { ip daddr . udp dport counter }
    meta nfproto ipv6 meta l4proto udp update @udp6 { ip6 daddr . udp dport counter }
  }
}
"""
Place = tuple[str, int]


@dataclass
class Packets:
    """Numbers of TCP SYN and UDP packets by address and port.

    ``within`` are TCP SYN packets to the host itself, which leave it by no link.
    """

    syn: Counter[Place] = field(default_factory=Counter)
    udp: Counter[Place] = field(default_factory=Counter)
    within: Counter[Place] = field(default_factory=Counter)

    def since(self, before: "Packets") -> "Packets":
        return Packets(self.syn - before.syn, self.udp - before.udp, self.within - before.within)

    def total(self, kind: str, family: Family) -> int:
        counted: Counter[Place] = getattr(self, kind)
        return sum(n for (ip, _), n in counted.items() if (":" in ip) == (family == "ipv6"))


class PacketCounters:
    """Counts what ``host`` sends, from ``__enter__`` on."""

    def __init__(self, host: Host) -> None:
        self._host, self._nft = host, find("nft")

    def __enter__(self) -> Self:
        self._host.run(self._nft, "-f", "-", stdin=_RULES)
        return self

    def __exit__(self, *_: object) -> None:
        self._host.run(self._nft, "delete", "table", "inet", "lab")

    def read(self) -> Packets:
        """All packets so far."""
        syn, udp, within = (
            self._read(f"{kind}4") + self._read(f"{kind}6") for kind in ("syn", "udp", "within")
        )
        return Packets(syn, udp, within)

    def _read(self, name: str) -> Counter[Place]:
        listed = json.loads(self._host.run(self._nft, "-j", "list", "set", "inet", "lab", name))
        (found,) = (one["set"] for one in listed["nftables"] if "set" in one)
        elements = (one["elem"] for one in found.get("elem", ()))
        return Counter({tuple(e["val"]["concat"]): e["counter"]["packets"] for e in elements})
