"""Policies with a pool whose members are checked."""

from typing import Any

from egress_policy.model.rule import Policy
from egress_policy.policy.snapshot import Snapshot, build_snapshot
from tests.helpers.filters import compile_word

URLS = {"ipv4": "http://one.test/", "ipv6": "http://six.test/"}


def proxy(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "host": f"{name}.test", **fields}


def snapshot(count: int = 0, checks: dict[str, Any] | None = None, **policy: Any) -> Snapshot:
    """A pool ``homes`` of ``count`` members, unless the policy has more."""
    names = [f"p{number}" for number in range(count)]
    made = {
        "proxies": [proxy(name) for name in names],
        "pools": [{"name": "homes", "members": names, "checks": checks or {"every": 60}}],
    }
    socks5 = policy.pop("socks5_enabled", True)
    return build_snapshot(
        Policy.model_validate({**made, **policy}), compile_word, socks5_enabled=socks5
    )
