"""``pools simulate``: how a pool would deal out flows, and what the loss of members would do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..model.words import count
from .command import examples
from .names import ALL, Name
from .output import say, say_json, say_table
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.simulate import Simulation


@click.command(epilog=examples("pools simulate homes --flows 10000 --kill home-1"))
@click.argument("name", type=Name("pools"))
@click.option("--flows", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True,
              help="each with a key of its own")  # fmt: skip
@click.option("--kill", "killed", multiple=True, metavar="PROXY", type=Name("proxies"),
              help="show what its loss changes; repeatable")  # fmt: skip
@with_session
def simulate(session: Session, name: str, flows: int, killed: Sequence[str]) -> int:
    """Show how a pool deals out flows; sends nothing.

    All proxies are taken to be available and equally fast. DUE is what the weights give, FLOWS what
    each member gets. After --kill, THEN is what it gets of as many flows without those members;
    of a sticky pool's keys so many are LOST to others and GAINED from them.
    """
    from ..management.simulate import simulate as simulated

    found = session.read(
        lambda asked: simulated(
            asked.pools.show(name), asked.proxies.list(limit=ALL).items, flows, killed
        )
    )
    (say_json if session.json else _say)(found)
    return 0


def _say(found: "Simulation") -> None:
    head = ["MEMBER", "WEIGHT", "DUE", "FLOWS", "SHARE"]
    rows = [
        [one.name, one.weight, _percent(one.expected), one.picked, _percent(one.share)]
        for one in found.members
    ]
    if found.killed:
        head += ["THEN", "SHARE"]
        for row, one in zip(rows, found.members, strict=True):
            row += [one.picked_after or 0, _percent(one.share_after or 0.0)]
    if found.killed and found.strategy == "sticky":
        head += ["LOST", "GAINED"]
        for row, one in zip(rows, found.members, strict=True):
            row += [one.moved_away or 0, one.moved_here or 0]
    say_table(head, rows)
    flows = count(found.flows, "flow", "flows")
    lost = f", then as many without {', '.join(found.killed)}" if found.killed else ""
    say(f"=> strategy {found.strategy}: {flows}{lost}")
    if found.unusable:
        say(f"=> inactive or deleted, so never picked: {', '.join(found.unusable)}")
    for refused, when in ((found.refused, ""), (found.refused_after, " after the loss")):
        if refused:
            say(f"=> {count(refused, 'flow', 'flows')} refused{when}: no member is left")


def _percent(part: float) -> str:
    return f"{part:.1%}"
