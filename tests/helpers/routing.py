"""A policy of two proxies, a resolver over a table, and the router over both."""

from typing import Any

from egress_policy.model.decision import Target
from egress_policy.model.family import FamilyNumber
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy
from egress_policy.policy.preflight import DnsAnswer
from egress_policy.policy.snapshot import Snapshot, build_snapshot
from egress_policy.proxy.filters import compile_filter
from egress_policy.router import EgressRouter

V4, V6 = "192.0.2.1", "2001:db8::1"
EXIT = {"name": "exit", "type": "socks5", "host": "proxy.test", "family": "ipv4"}
OTHER = {"name": "other", "type": "http", "host": "192.0.2.50"}
MODE = Proxy(name="upstream", host="mode.test", port=3128)


class Zone:
    """A resolver over a table of (name, family); ``asked`` lists the questions."""

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = {name.replace("_", "."): addresses for name, addresses in hosts.items()}
        self.asked: list[tuple[str, FamilyNumber | None]] = []

    def known(self, host: str, family: FamilyNumber | None) -> DnsAnswer | None:
        """The answer to a question that was asked before."""
        if (host, family) not in self.asked:
            return None
        return self.answer(host, family)

    async def resolve(self, host: str, family: FamilyNumber | None) -> DnsAnswer:
        return self.answer(host, family, note=True)

    def answer(self, host: str, family: FamilyNumber | None, *, note: bool = False) -> DnsAnswer:
        if note:
            self.asked.append((host, family))
        every = self.hosts.get(host, [])
        found = tuple(ip for ip in every if family is None or (":" in ip) == (family == 6))
        return DnsAnswer(found, 60, "records" if found else "no_record", elapsed_ms=1.5)


def snapshot_of(*rules: dict[str, Any], **policy: Any) -> Snapshot:
    """The policy of these rules. Its proxies are ``EXIT`` and ``OTHER``."""
    told = {"proxies": [EXIT, OTHER], "rules": list(rules), **policy}
    return build_snapshot(Policy.model_validate(told), compile_filter)


def router(*rules: dict[str, Any], zone: Zone | None = None, **policy: Any) -> EgressRouter:
    return EgressRouter(snapshot_of(*rules, **policy), zone or Zone())


def to(host: str = "origin.test", **fields: Any) -> Target:
    return Target(host, 443, client="127.0.0.1", **fields)
