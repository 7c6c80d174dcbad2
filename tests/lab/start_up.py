"""Stories of a start: clients knock at every kind of listener, from before it listens until
mitmproxy has ended."""

import asyncio
from typing import Any

from tests.helpers.knocking import Door, Knocking, doors
from tests.helpers.server import LabServer
from tests.helpers.watch import poll
from tests.lab.hosts import ORIGIN
from tests.lab.stage import ANY, PATIENCE, Stage


async def start_that_fails(stage: Stage) -> None:
    """In every mode, including modes that dial at accept, nothing leaves before the end."""
    all_doors = _doors_to(stage, 3)
    options: dict[str, Any] = {"mode": [door.mode for door in all_doors]}
    for wrong in (
        {"egress_polcy": "policy.yaml"},
        {"egress_defualt": "refuse"},
        {"egress_registry": "/proc/nowhere/egress.db"},
    ):
        mitm = stage.mitmdump(policy={"default": "direct"}, **options, **wrong)
        with stage.peers.hosts.mitm.entered():
            async with Knocking(all_doors) as knocking:
                stage.expect("status", (await mitm.run_to_exit())[0], 1)
        stage.expect("doors", knocking.opened, {door.port for door in all_doors})


async def start_that_refuses(stage: Stage) -> None:
    """In every mode, allowed traffic reaches the origin, and nothing else ever does. This also
    shows that the lab sees the knocking clients."""
    let_through, refused = _doors_to(stage, 4), _doors_to(stage, 5)
    rule = {"hosts": [ORIGIN.at(4, "ipv4")], "use": "direct"}
    all_doors = [*let_through, *refused]
    mitm = stage.mitmdump(
        policy={"rules": [rule], "default": "refuse"}, mode=[door.mode for door in all_doors]
    )
    with stage.peers.hosts.mitm.entered():
        async with Knocking(all_doors) as knocking, mitm, asyncio.timeout(PATIENCE):
            await poll(lambda: len(knocking.opened) == len(all_doors), PATIENCE)
            await knocking.once()
    stage.allowed[ORIGIN.at(4, "ipv4"), stage.peers.origin.port] += ANY


def _doors_to(stage: Stage, number: int) -> list[Door]:
    """Mitmproxy's packets to an address of the origin."""
    target = LabServer(host=ORIGIN.at(number, "ipv4"))
    target.port = stage.peers.origin.port
    # Without a firewall transparent mode has no target; it logs an ERROR, which ends mitmproxy.
    return [door for door in doors(target) if not door.mode.startswith("transparent")]
