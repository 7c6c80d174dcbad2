"""What is published of flows that really run: each once, whatever its end, and by which exit."""

from pathlib import Path
from typing import Any

import pytest

from egress_policy.management.management import Management
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.clients import http_get
from tests.helpers.lab import egress_metadata
from tests.helpers.origin import Origin
from tests.helpers.proxies import entry
from tests.helpers.scene import egress


def management() -> Management:
    config = find(EgressConfig)
    assert config
    return config.management


DEAD = entry("socks5", 1) | {"name": "dead"}
V6 = entry("http", 1) | {"name": "dead", "host": "v4.test", "family": "ipv6"}
ENFORCED = {"exit_in": ["203.0.113.0/24"], "exit_enforce": True}
TO_DEAD = {"use": "dead"}


@pytest.mark.parametrize(
    ("reason", "exit_", "scene"),
    [
        ("connect_refused", "dead", {"proxies": [DEAD], "rules": [TO_DEAD]}),
        ("connect_refused", "dead", {"proxies": [DEAD | {"type": "http"}], "rules": [TO_DEAD]}),
        ("no_record", "dead", {"proxies": [V6], "rules": [TO_DEAD], "hosts": {"v4.test": "::"}}),
        ("disabled", "dead", {"proxies": [DEAD | {"status": "inactive"}], "rules": [TO_DEAD]}),
        (
            "socks5_disabled",
            "dead",
            {"proxies": [DEAD], "rules": [TO_DEAD], "egress_socks5": False},
        ),
        ("exit_unverified", "dead", {"proxies": [DEAD | ENFORCED], "rules": [TO_DEAD]}),
        (
            "connect_refused",
            "dead",
            {
                "proxies": [DEAD | {"name": "first"}, DEAD],
                "pools": [{"name": "both", "members": ["first", "dead"], "strategy": "first"}],
                "rules": [{"use": "both"}],
            },
        ),
        ("literal_contradiction", "direct", {"rules": [{"use": "direct", "family": "ipv6"}]}),
        ("rule", None, {"rules": [{"use": "refuse"}]}),
        ("default", None, {"default": "refuse"}),
    ],
)
async def test_refused_flow_counts_for_the_exit_that_it_was_to_leave_by(
    reason: str, exit_: str | None, scene: dict[str, Any], tmp_path: Path
) -> None:
    async with Origin() as origin, egress(tmp_path, **scene) as mitm:
        for _ in range(2):
            assert (await http_get(mitm.port, origin.url())).status == 503
        await mitm.wait_for_flows(2)
        assert egress_metadata(mitm.flows[0])["reason"] == reason
        found = await management().overviews.show()
        refused = {one.exit: one.refused for one in found.exits.items if one.refused}
        assert refused == ({exit_: 2} if exit_ else {})
        assert sum(found.refused) == 2
