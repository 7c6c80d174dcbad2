"""Exits of the proxies of a registry, with a journal in memory and a clock of the test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from egress_policy.errors import Reason
from egress_policy.management.exit_views import ProxyExits
from egress_policy.management.exits import Exits
from egress_policy.management.known_exits import KnownExits
from egress_policy.management.management import Management
from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from tests.helpers.clock import Clock
from tests.helpers.management import hop

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


A, B, C6 = "203.0.113.1", "203.0.113.2", "2001:db8::1"


class Rows:
    """A journal in memory."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []

    def add_observations(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += rows

    async def observations(self) -> Sequence[Mapping[str, Any]]:
        return self.rows


@dataclass
class Place:
    """What is known of exits and what is shown of it. Until the test moves it, it is noon."""

    management: Management
    clock: Clock = field(default_factory=Clock)
    journal: Rows = field(default_factory=Rows)
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Know no more than another run would, on the same journal."""
        in_force, proxies = self.management.in_force, self.management.proxies
        self.known = KnownExits(
            in_force,
            self.journal,
            self.clock,
            lambda: NOON + timedelta(seconds=self.clock.now - 1000),
        )
        self.known.on_event = lambda *event: self.events.append(event)
        self.exits = Exits(in_force, self.known, lambda key: proxies.row(key).name, self.clock)

    async def make(self, name: str = "one", **fields: Any) -> str:
        return (await self.management.proxies.create(hop(name, **fields))).id

    def proxy(self, name: str = "one") -> Proxy:
        return self.management.in_force.snapshot.proxies[name]

    def saw(self, address: str, name: str = "one", after: float = 0) -> None:
        self.clock.now += after
        self.known.seen(self.proxy(name), address, "echo")

    def refused(self, name: str = "one") -> Reason | None:
        proxy = self.proxy(name)
        refusal = self.known.exit_refusal(Egress(proxy, proxy.family, proxy.target_family))
        return refusal.reason if refusal else None

    async def shown(self, name: str = "one") -> ProxyExits:
        (found,) = (await self.exits.list(proxy=name)).items
        return found


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about exits; no address is in it."""
    texts = [one.getMessage() for one in caplog.records if "exit" in one.name]
    assert not any(address in text for text in texts for address in (A, B, C6))
    caplog.clear()
    return texts
