"""A `Management` on its own registry, in the test's loop, without mitmproxy."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from egress_policy.collector import Collector
from egress_policy.management.management import Management
from egress_policy.management.upkeep import Upkeep
from egress_policy.model.settings import parse_settings
from egress_policy.proxy.filters import compile_filter, request_for
from tests.helpers.scene import still

KEY = {"EGRESS_KEY": "a key for tests, long enough"}


def hop(name: str = "one", **fields: Any) -> dict[str, Any]:
    """The fields of a proxy as a face receives them."""
    return {"name": name, "type": "socks5", "host": "192.0.2.1", "port": 1080, **fields}


def put_in_force(upkeep: Upkeep, folder: Path, policy: Path | str = "") -> None:
    """A policy file and a registry in memory."""
    values = {"egress_policy": str(policy), "egress_registry": ":memory:"}
    settings = parse_settings(values, {}, folder)
    upkeep.take(upkeep.opener.open(settings, folder, KEY)).settle()


@contextlib.asynccontextmanager
async def managed(
    folder: Path,
    *,
    registry: str | None = None,
    policy: dict[str, Any] | None = None,
    collector: Collector | None = None,
    **options: Any,
) -> AsyncIterator[Management]:
    """A management that is in force and watches. ``policy`` is written to ``policy.yaml``."""
    values: dict[str, Any] = {f"egress_{name}": value for name, value in options.items()}
    values["egress_registry"] = str(folder / "egress.db") if registry is None else registry
    values["egress_hosts_file"] = ""
    if policy is not None:
        file = folder / "policy.yaml"
        file.write_text(json.dumps({"version": 1, **policy}))
        still(file)
        values["egress_policy"] = str(file)
    management = Management(compile_filter, request_for, collector=collector)
    management.configure(parse_settings(values, {}, folder), folder, KEY)
    management.start()
    try:
        yield management
    finally:
        closing = management.stop()
        if closing:
            await closing
