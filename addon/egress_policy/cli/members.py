"""``pools members`` and ``pools leases``: how the members of a pool fare, and who has which."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from ..management.states import STATES, why_now
from ..model.words import count, milliseconds, span
from .colour import Painted, Style
from .command import examples
from .names import ALL, Name
from .output import say, say_json, say_table, warn
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.members import LeasesView, MembersView, MemberView

_STATES: Final[dict[str, Style]] = {
    "open": "bad", "exit": "bad", "half-open": "warn", "full": "warn", "unusable": "quiet",
}  # fmt: skip
_HEAD = ("PROXY", "STATUS", "STATE", "CONNS", "SHARE", "DUE", "HOP", "WHY")


@click.command(epilog=examples("pools members homes", "pools members homes --state open --json"))
@click.argument("name", type=Name("pools"))
@click.option("--state", type=click.Choice(STATES), help="only the members that fare like this")
@with_session
def members(session: Session, name: str, state: str | None) -> int:
    """Show how the members of a pool fare.

    STATUS is the word of a person, STATE how the proxy fares. "closed" is its circuit where all is
    well. "open" is left alone after failures, and "half-open" is tried by one connection at a time.
    "full" has max_connections, "exit" has not the expected exit, and "unusable" is not allowed.

    CONNS are its connections and their limit. SHARE is its part of the picks so far, DUE what the
    weights give at this moment. HOP is what the way to the proxy takes.
    """
    is_known, found = session.read(
        lambda asked: (
            asked.is_running,
            asked.members.list(name, limit=ALL, state=state or ""),
        )
    )
    (say_json if session.json else _say_members)(found)
    if not is_known:
        warn("no mitmproxy runs here, so how they fare is not known")
    return 0


def _say_members(found: "MembersView") -> None:
    say_table(_HEAD, map(_row, found.items))
    say(f"=> pool {found.pool}, strategy {found.strategy}: {in_words(found.states)}")
    if found.problem:
        warn(f"nothing leaves by this pool: {found.problem}")
    if found.own_network:
        warn("own network? It seems to be down, so failures are held against no proxy")


def _row(one: "MemberView") -> list[object]:
    connections = f"{one.active}/{one.limit}" if one.limit else one.active
    share = None if one.share is None else f"{one.share:.0%}"
    due = f"{one.expected_share:.0%}"
    hop = None if one.ewma_ms is None else milliseconds(one.ewma_ms)
    return [
        one.proxy,
        one.status,
        state_cell(one.state),
        connections,
        share,
        due,
        hop,
        why_now(one),
    ]


@click.command(epilog=examples("pools leases homes", "pools leases homes --forget"))
@click.argument("name", type=Name("pools"))
@click.option("--limit", type=click.IntRange(1, ALL), default=50, show_default=True,
              help="how many are listed")  # fmt: skip
@click.option("--forget", is_flag=True, help="forget all: the keys are dealt out anew")
@with_session
def leases(session: Session, name: str, limit: int, forget: bool) -> int:
    """Show which keys of a sticky pool have which member. Keys are shown as digests."""
    if forget:
        done = session.read(lambda asked: asked.forget_leases(name))
        if session.json:
            say_json(done)
        else:
            say(f"pool {done.pool}: {count(done.forgotten, 'lease', 'leases')} forgotten")
        return 0
    found = session.read(lambda asked: asked.members.leases(name, limit=limit))
    (say_json if session.json else _say_leases)(found)
    return 0


def _say_leases(found: "LeasesView") -> None:
    rows: Any = ([one.key, one.member, span(one.age_s), span(one.expires_in_s)]
                 for one in found.items)  # fmt: skip
    say_table(("KEY", "MEMBER", "FOR", "ENDS IN"), rows)
    total = count(found.page.total, "lease", "leases")
    if found.strategy != "sticky":
        say(f"=> pool {found.pool}: the strategy {found.strategy} has no leases, only sticky has")
        return
    each = f": {in_words(found.members)}" if found.members else ""
    sticky = f"sticky by {found.sticky_by} for {found.sticky_minutes} min"
    say(f"=> pool {found.pool}, {sticky}: {total}{each}")


def state_cell(state: str) -> Painted:
    """How a proxy fares, in the colour that it has in every table."""
    return Painted(state, _STATES.get(state))


def in_words(counts: Mapping[str, int]) -> str:
    """``2 closed, 1 open``."""
    return ", ".join(f"{number} {word}" for word, number in counts.items()) or "no members"
