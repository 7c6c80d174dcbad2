"""A script for ``mitmdump -s`` that removes a safeguard from the addon: the lab must notice.

``LAB_WITHOUT`` says which: ``guard``, ``filter`` (of mapped addresses), ``pin`` (only checked
addresses are dialled) or ``circuit`` (a dead proxy is left alone).
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "addon"))

from egress_policy import default_addons
from egress_policy.model.decision import Pin, Refusal, Route
from egress_policy.policy import preflight
from egress_policy.policy.health import Health
from egress_policy.policy.preflight import DnsAnswer, Query
from egress_policy.proxy.addons import config
from egress_policy.router import EgressRouter


def without_guard() -> None:
    class NoGuard:
        closed = ""

    setattr(config, "stand_guard", NoGuard)  # noqa: B010


def without_filter() -> None:
    filtered = preflight.judge

    def judge(query: Query, answer: DnsAnswer) -> Pin | Refusal:
        if answer.kind == "records":
            return Pin(answer.addresses, query.family, answer.ttl, answer.elapsed_ms)
        return filtered(query, answer)

    preflight.judge = judge


def without_pin() -> None:
    checked = EgressRouter.route

    async def route(self: EgressRouter, *args: Any) -> Any:
        found = await checked(self, *args)
        if isinstance(found, Route) and found.pin.family:
            host = found.proxy.host if found.egress.proxy else args[1]
            self.resolver.clear()  # type: ignore[attr-defined]
            again = await self.resolver.resolve(host, found.pin.family)
            if again.addresses:
                return replace(found, pin=replace(found.pin, addresses=again.addresses))
        return found

    setattr(EgressRouter, "route", route)  # noqa: B010
    setattr(EgressRouter, "route_now", lambda *_: None)  # noqa: B010


def without_circuit() -> None:
    setattr(Health, "is_available", lambda *_: True)  # noqa: B010


SABOTAGES: dict[str, Callable[[], None]] = {
    "guard": without_guard,
    "filter": without_filter,
    "pin": without_pin,
    "circuit": without_circuit,
}

SABOTAGES[os.environ["LAB_WITHOUT"]]()
addons = default_addons()
