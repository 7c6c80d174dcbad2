"""Pools of made-up proxies, and a condition of them that a test changes."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from egress_policy.errors import Reason
from egress_policy.model.decision import Egress, Members, Refusal, Target
from egress_policy.model.pool import Member, Pool
from egress_policy.model.proxy import Proxy


@cache
def proxy_of(name: str) -> Proxy:
    return Proxy(name=name, host=f"{name}.example")


def egress(name: str, **fields: Any) -> Egress:
    return Egress(proxy_of(name), **fields)


def members_of(names: Iterable[str], weights: Mapping[str, int] | None = None) -> Members:
    listed = list(names)
    return Members(map(egress, listed), [(weights or {}).get(name, 1) for name in listed])


def pool_of(members: Members, strategy: Any = "round-robin", **fields: Any) -> Pool:
    """A pool ``p`` of these members."""
    pairs = zip(members, members.weights, strict=True)
    listed = tuple(Member(name=one.name, weight=weight) for one, weight in pairs)
    return Pool(**{"name": "p", "members": listed, "strategy": strategy, **fields})


def asked_by(client: str = "c", host: str = "a.example") -> Target:
    return Target(host, 443, client)


class Fleet:
    """A condition: every proxy is available but for those that a test puts off."""

    def __init__(self, keeps: int = 1000) -> None:
        self.off: dict[str, Refusal] = {}
        self.connections: dict[str, int] = {}
        self.costs: dict[str, float] = {}
        self.asked: list[str] = []
        self._back: list[str] = []
        self._keeps = keeps

    def put_off(
        self, *names: str, reason: Reason = Reason.CIRCUIT_OPEN, retry_after: float | None = 5.0
    ) -> None:
        for name in names:
            self.off[name] = Refusal(reason, "why", name, retry_after=retry_after)

    def bring_back(self, *names: str) -> None:
        for name in names:
            if self.off.pop(name, None):
                self._back.append(egress(name).hop_key)

    def is_available(self, egress: Egress) -> bool:
        self.asked.append(egress.name)
        return egress.name not in self.off

    def refusal(self, egress: Egress) -> Refusal | None:
        return self.off.get(egress.name)

    def active(self, egress: Egress) -> int:
        return self.connections.get(egress.name, 0)

    def cost(self, egress: Egress) -> float | None:
        return self.costs.get(egress.name)

    def returned(self, since: int) -> tuple[int, Sequence[str] | None]:
        position = len(self._back)
        return position, None if position - since > self._keeps else self._back[since:]
