"""``exits``: the addresses that targets see, and who shares one."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..errors import EgressError, InvalidEntry
from ..model.words import span
from .colour import ok_cell
from .command import Group, examples
from .entries import in_json, outcome
from .names import ALL, Name
from .output import problem_of, progress, say_json, say_problem, say_table
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.exit_views import Look, ProxyExits, SharedExits
    from .running import Asked

_HEAD = ("PROXY", "VERDICT", "ADDRESS", "SEEN", "BY", "EXPECTED", "PROBLEM")


@click.group(cls=Group, epilog=examples("exits list", "exits probe --all", "exits shared"))
def exits() -> None:
    """Show and look for the addresses that targets see."""


@exits.command("list", epilog=examples("exits list", "exits list --proxy home-1 --json"))
@click.option("--proxy", default="", metavar="NAME", type=Name("proxies"), help="of one proxy")
@with_session
def list_(session: Session, proxy: str) -> int:
    """List the exits of the proxies, beside what is expected of them.

    SEEN says how long ago a target saw the ADDRESS, BY who told: test, echo, or push by a program.
    "stable" and "rotating" need several looks, "stale" is older than a day.
    """
    found = session.read(lambda asked: asked.exits.list(proxy=proxy, limit=ALL)).items
    if session.json:
        say_json(found)
    else:
        say_table(_HEAD, (row for one in found for row in _rows(one)))
    return 1 if any(one.problem for one in found) else 0


@exits.command(epilog=examples("exits probe home-1", "exits probe --all"))
@click.argument("names", nargs=-1, metavar="[NAME...]", type=Name("proxies"))
@click.option("--all", "all_active", is_flag=True, help="every active proxy")
@with_session
def probe(session: Session, names: Sequence[str], all_active: bool) -> int:
    """Look at exits through the echo URLs of the settings."""
    if not names and not all_active:
        raise InvalidEntry("Name the proxies to look at, or give --all", "names")
    found = session.read(lambda asked: _looked(asked, names, all_active))
    failed = [(name, one) for name, one in found if isinstance(one, EgressError)]
    looks: list[Look] = []
    for _, one in found:
        looks += () if isinstance(one, EgressError) else one
    if session.json:
        say_json([*looks, *(in_json(one, {"ok": False, "proxy": name}) for name, one in failed)])
    else:
        if looks or not failed:
            head = ("PROXY", "FAMILY", "RESULT", "ADDRESS", "WHY")
            say_table(head, ((o.proxy, o.family, ok_cell(o.ok), o.address, o.detail)
                             for o in looks))  # fmt: skip
        for name, error in failed:
            say_problem(problem_of(error), as_json=False, about=name)
    return 0 if not failed and all(one.ok for one in looks) else 1


async def _looked(asked: "Asked", names: Sequence[str], all_active: bool) -> Any:
    if all_active:
        found = asked.proxies.list(status="active", limit=ALL).items
        names = [proxy.name for proxy in found]
    names = tuple(dict.fromkeys(names))
    with progress(len(names), "looking") as step:

        async def look(asked: "Asked", name: str) -> "tuple[Look, ...]":
            return (await asked.exit_looks.probe([name])).items

        async def one(name: str) -> "tuple[str, tuple[Look, ...] | EgressError]":
            came_of = await outcome(asked, name, look)
            step()
            return name, came_of

        return await asyncio.gather(*map(one, names))


@exits.command(epilog=examples("exits shared"))
@with_session
def shared(session: Session) -> int:
    """List the assignments of one group that leave by one exit."""
    found: SharedExits = session.read(lambda asked: asked.exits.shared())
    if session.json:
        say_json(found)
    else:
        say_table(("GROUP", "EXIT", "ASSIGNMENT", "PROXY"), _users(found))
    return 1 if found.items else 0


def _rows(one: "ProxyExits") -> Iterable[Sequence[object]]:
    expected = " ".join([*filter(None, [one.exit_family]), *one.exit_in])
    about = (f"{expected} (enforced)".strip() if one.exit_enforce else expected, one.why)
    if not one.exits:
        yield (one.proxy, "unknown", None, None, None, *about)
    for seen in one.exits:
        age = (datetime.now(UTC) - datetime.fromisoformat(seen.at)).total_seconds()
        ago = span(max(0.0, age))  # the clock of the mitmproxy that is asked may be ahead
        yield (one.proxy, seen.verdict, seen.address, ago, seen.source, *about)


def _users(found: "SharedExits") -> Iterable[Sequence[object]]:
    for one in found.items:
        place = (one.exit or "one proxy") if one.decided else "rotates: cannot be told"
        for user in one.users:
            yield one.group, place, user.assignment, user.proxy
