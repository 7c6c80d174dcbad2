"""The pre-flight against dnsmasq: one query for one family, and only its answers are dialled."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.curl import curl
from tests.e2e.mitmdump import egress, read_http
from tests.e2e.programs import EXIT, IPV4, IPV6, dnsmasq, nginx, tinyproxy

pytestmark = pytest.mark.e2e

MANY = [f"127.0.1.{number}" for number in range(1, 61)]
RECORDS = (
    f"a.test,{IPV4}",
    f"aaaa.test,{IPV6}",
    f"both.test,{IPV4},{IPV6}",
    "alias.test=both.test",
    "alias-of-a.test=a.test",
    "mapped.test,::ffff:127.0.0.1",
    *(f"many.test,{address}" for address in MANY),
)
UNHEARD = "unheard.test"
"""Asked for after the nameserver has gone."""
UNAVAILABLE = (503, "PROXY_FAMILY_UNAVAILABLE")


@pytest.mark.parametrize(("family", "query"), [("ipv4", "A"), ("ipv6", "AAAA")])
async def test_a_pinned_proxy_is_dialled_at_the_records_of_its_family(
    tmp_path: Path, family: str, query: str
) -> None:
    one = {"ipv4": {IPV4}, "ipv6": {IPV6}}[family]
    lacking = (*UNAVAILABLE, "no_record")
    nowhere = (*UNAVAILABLE, "dns_failure")
    expected: dict[str, Any] = {
        "a.test": one if family == "ipv4" else lacking,
        "aaaa.test": one if family == "ipv6" else lacking,
        "both.test": one,
        "alias.test": one,
        "alias-of-a.test": one if family == "ipv4" else lacking,
        "mapped.test": lacking if family == "ipv4" else (*UNAVAILABLE, "mapped_address"),
        # More than fits into a datagram: asked again over TCP.
        "many.test": set(MANY) if family == "ipv4" else lacking,
        "none.test": nowhere,
        "beyond.example": nowhere,
        UNHEARD: (*UNAVAILABLE, "dns_timeout"),
    }
    saved = tmp_path / "saved.flow"
    async with (
        nginx(tmp_path) as origin,
        tinyproxy(tmp_path, "0.0.0.0", "::") as proxy,
        dnsmasq(tmp_path, *RECORDS) as nameserver,
    ):
        # Every name is a proxy of its own, chosen by the request.
        policy = {
            "proxies": [
                {"name": name, "host": name, "port": proxy.port, "family": family}
                for name in expected
            ],
            "rules": [{"filter": f"~u /{name}$", "use": name} for name in expected],
            "default": "refuse",
        }
        url = f"http://{IPV4}:{origin.port}/"
        async with egress(
            tmp_path,
            *("-w", str(saved)),
            policy=policy,
            dns=nameserver.port,
            egress_dns_timeout_ms=2000,
        ) as mitm:
            for name, outcome in expected.items():
                if name == UNHEARD:
                    await nameserver.end()
                answer = await curl(url + name, *mitm.proxy)
                if isinstance(outcome, tuple):
                    assert (name, answer.refused) == (name, outcome)
                else:
                    assert (name, answer.reached) == (name, (200, EXIT, "HTTP/1.1"))
        asked = re.findall(r"query\[(\w+)\] (\S+)", nameserver.output)
    assert {kind for kind, _ in asked} == {query}
    assert {name for _, name in asked} == set(expected) - {UNHEARD}
    for flow in read_http(saved):
        outcome = expected[flow.request.path[1:]]
        address = flow.metadata.get("egress.address")
        assert address is None if isinstance(outcome, tuple) else address in outcome
