"""A policy in force: mitmproxy in this event loop with the addons, a policy file and the lab."""

import json
import os
from pathlib import Path
from typing import Any

from egress_policy import default_addons
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.mitm import Mitm


def write_policy(path: Path, **policy: Any) -> Path:
    """Write a policy file; JSON is YAML. A watcher sees either the old file or the new one."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps({"version": 1, **policy}, indent=1))
    os.replace(still(beside), path)
    return path


async def reload_policy() -> None:
    """Put an edit of the policy file in force."""
    config = find(EgressConfig)
    assert config
    assert not await config.management.upkeep.reload()


def part[T](kind: type[T]) -> T:
    """The addon of this class, or the part of one, in the mitmproxy that runs."""
    config = find(EgressConfig)
    assert config
    return find(kind) or next(one for one in config.parts if isinstance(one, kind))


def still(path: Path) -> Path:
    """Make a file look as if it had not been written for a while, so that it is read at once."""
    before = path.stat().st_mtime_ns - 10 * 10**9
    os.utime(path, ns=(before, before))
    return path


def egress(
    folder: Path,
    *,
    proxies: list[dict[str, Any]] | None = None,
    pools: list[dict[str, Any]] | None = None,
    rules: list[dict[str, Any]] | None = None,
    default: str | None = None,
    dns: int | None = None,
    hosts: dict[str, str] | None = None,
    **options: Any,
) -> Mitm:
    """Not yet entered. ``dns`` is a nameserver's port on loopback, ``hosts`` become a hosts
    file."""
    stated = {"proxies": proxies, "pools": pools, "rules": rules, "default": default}
    policy = write_policy(folder / "policy.yaml", **{k: v for k, v in stated.items() if v})
    hosts_file = folder / "hosts"
    hosts_file.write_text("".join(f"{ip} {name}\n" for name, ip in (hosts or {}).items()))
    options = {"egress_hosts_file": str(hosts_file) if hosts else "", **options}
    if dns:
        options["egress_dns"] = [f"127.0.0.1:{dns}"]
    return Mitm(folder / "conf", *default_addons(), egress_policy=str(policy), **options)
