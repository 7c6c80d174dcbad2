"""A pinned egress sends no packet of the other family: counted in a private network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.curl import curl
from tests.e2e.mitmdump import EgressMitmdump, egress
from tests.e2e.network import PacketCounter, black_hole, network
from tests.e2e.programs import IPV4, dnsmasq, nginx, tinyproxy
from tests.e2e.system import Program, with_files

pytestmark = pytest.mark.e2e

V4, V6 = "192.0.2.10", "2001:db8::10"
"""The address at which the proxy (or, for a direct egress, the origin) answers."""
LOST_V4, LOST_V6 = "198.51.100.10", "2001:db8:1::10"
"""Addresses that never answer."""
NO_ROUTE_V4, NO_ROUTE_V6 = "203.0.113.10", "2001:db8:2::10"
MAPPED = f"::ffff:{V4}"


HOSTS = {
    "dual.test": (V4, V6),
    "only4.test": (V4,),
    "only6.test": (V6,),
    "mapped.test": (V4, MAPPED),
    "lost4.test": (LOST_V4, V6),
    "lost6.test": (V4, LOST_V6),
    "away4.test": (NO_ROUTE_V4, V6),
    "away6.test": (V4, NO_ROUTE_V6),
    "second4.test": (NO_ROUTE_V4, V6, V4),
    "second6.test": (V4, NO_ROUTE_V6, V6),
}


@dataclass(frozen=True)
class Case:
    """The outcome of a request, and the addresses to which a connection was asked for.

    The request takes a proxy on host ``proxy``, or goes directly to ``target``.
    """

    outcome: str
    called: set[str]
    proxy: str = ""
    target: str = IPV4


CASES = {
    "ipv4": [
        Case("ok", {V4}, "dual.test"),
        Case("ok", {V4}, "mapped.test"),
        Case("ok", {V4}, MAPPED),
        Case("ok", {V4}, "second4.test"),
        Case("no_record", set(), "only6.test"),
        Case("connect_refused", set(), "away4.test"),
        Case("connect_timeout", {LOST_V4}, "lost4.test"),
        Case("ok", {V4}, target="dual.test"),
        Case("ok", {V4}, target=f"[{MAPPED}]"),
        Case("literal_contradiction", set(), target=f"[{V6}]"),
        Case("connect_refused", set(), target="away4.test"),
    ],
    "ipv6": [
        Case("ok", {V6}, "dual.test"),
        Case("ok", {V6}, "second6.test"),
        Case("no_record", set(), "only4.test"),
        Case("no_record", set(), "mapped.test"),
        Case("mapped_address", set(), "mapped-in-dns.test"),
        Case("connect_refused", set(), "away6.test"),
        Case("connect_timeout", {LOST_V6}, "lost6.test"),
        Case("ok", {V6}, target="dual.test"),
        Case("literal_contradiction", set(), target=V4),
        Case("literal_contradiction", set(), target=f"[{MAPPED}]"),
        Case("connect_refused", set(), target="away6.test"),
    ],
    # Not pinned: the way that is open is taken, whichever family it is.
    "auto": [
        Case("ok", {V4}, MAPPED),
        Case("ok", {V4}, "away6.test"),
        Case("ok", {V6}, "away4.test"),
        Case("ok", {V4}, target="away6.test"),
        Case("ok", {V6}, target="away4.test"),
    ],
}


@pytest.mark.parametrize("family", CASES)
async def test_no_packet_of_another_family_is_sent(tmp_path: Path, family: str) -> None:
    # ``auto`` leaves names to the system, whose hosts file must know them too.
    hosts = tmp_path / "system-hosts"
    hosts.write_text("".join(f"{ip} {name}\n" for name, ips in HOSTS.items() for ip in ips))
    prefix = with_files({"/etc/hosts": hosts})
    with network(V4, V6, LOST_V4, LOST_V6):
        async with (
            nginx(tmp_path, IPV4, V4, V6) as origin,
            tinyproxy(tmp_path, IPV4, V4, V6) as proxy,
            dnsmasq(tmp_path, f"mapped-in-dns.test,{MAPPED}") as nameserver,
            egress(
                tmp_path,
                policy=policy(CASES[family], family, proxy.port),
                hosts=HOSTS,
                dns=nameserver.port,
                prefix=prefix,
                ssl_insecure=True,  # the origin's certificate is not for all these names
            ) as mitm,
        ):
            with black_hole(LOST_V4, proxy.port), black_hole(LOST_V6, proxy.port):
                for number, case in enumerate(CASES[family], 1):
                    with PacketCounter() as counter:
                        outcome = await ask(mitm, origin, number, case)
                        assert (case, outcome, counter.called) == (case, case.outcome, case.called)
                        families = {6 if ":" in address else 4 for address in case.called}
                        assert (case, counter.families) == (case, families)


async def test_a_mapped_literal_pinned_to_ipv6_does_not_start(tmp_path: Path) -> None:
    with network(V4, V6), PacketCounter() as counter:
        pinned = egress(tmp_path, policy=policy([Case("", set(), MAPPED)], "ipv6", 8080))
        status, output = await pinned.run_to_exit()
        assert status == 1
        assert "directive ipv6 contradicts IPv4 literal host" in output
        assert counter.sent == []


def policy(cases: Sequence[Case], family: str, port: int) -> dict[str, Any]:
    """A rule for each case, by the client's address: 127.0.1.1 for the first, and so on."""
    proxies, rules = [], []
    for number, case in enumerate(cases, 1):
        client = [f"127.0.1.{number}"]
        if case.proxy:
            entry = {"name": f"case-{number}", "host": case.proxy, "port": port, "family": family}
            proxies.append(entry)
            rules.append({"clients": client, "use": entry["name"]})
        else:
            rules.append({"clients": client, "use": "direct", "family": family})
    return {"proxies": proxies, "rules": rules, "default": "refuse"}


async def ask(mitm: EgressMitmdump, origin: Program, number: int, case: Case) -> str:
    """The outcome of a plain and a TLS request: ``ok``, or the reason of the refusal."""
    urls = [f"http://{case.target}:{origin.port}/", f"https://{case.target}:{origin.tls_port}/"]
    if case.outcome == "connect_timeout":
        urls.pop()  # waiting once is long enough
    client = ("--interface", f"127.0.1.{number}")
    answers = [await curl(url, *mitm.proxy, *client, "-k") for url in urls]
    return " ".join({"ok" if a.status == 200 else a.refused[2] for a in answers})
