"""``test``: tests of proxies through their pinned hops."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from ..errors import EgressError, InvalidEntry
from ..model.family import family_name
from ..model.words import milliseconds
from .colour import ok_cell
from .command import examples
from .entries import in_json, outcome
from .names import ALL, Name
from .output import problem_of, progress, say, say_json, say_problem, say_table
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.test_result import TestResult
    from .running import Asked

    type Outcome = tuple[str, TestResult | EgressError]

_HEAD: Final = ("PROXY", "RESULT", "TIME", "HOP", "EGRESS IP", "DETAILS")
_STEPS: Final = ("dns", "connect", "handshake", "first_byte")


@click.command(epilog=examples("test home-1 home-2", "test --all --json"))
@click.argument("names", nargs=-1, metavar="[NAME...]", type=Name("proxies"))
@click.option("--all", "all_active", is_flag=True, help="every active proxy")
@click.option("--dns", multiple=True, metavar="SERVER", help="option egress_dns")
@with_session
def test(session: Session, names: Sequence[str], all_active: bool) -> int:
    """Test proxies through their pinned hops, and list the fastest first. HOP is the family of the
    way to the proxy, EGRESS IP what a target saw."""
    if not names and not all_active:
        raise InvalidEntry("Name the proxies to test, or give --all", "names")
    outcomes = session.read(lambda asked: _tested(asked, names, all_active))
    results = [one for _, one in outcomes if not isinstance(one, EgressError)]
    if session.json:
        say_json([in_json(one, {"ok": False, "proxy": name}) for name, one in outcomes])
    else:
        if results or not outcomes:
            say_table(_HEAD, map(_row, sorted(results, key=_order)))
        for name, error in outcomes:
            if isinstance(error, EgressError):
                say_problem(problem_of(error), as_json=False, about=name)
        if len(outcomes) > 1:
            good = sum(one.ok for one in results)
            say(f"{len(outcomes)} tested: {good} good, {len(outcomes) - good} failed")
    return 0 if len(results) == len(outcomes) and all(one.ok for one in results) else 1


async def _tested(asked: "Asked", names: Sequence[str], all_active: bool) -> "list[Outcome]":
    if all_active:
        found = asked.proxies.list(status="active", limit=ALL).items
        names = [proxy.name for proxy in found]
    names = tuple(dict.fromkeys(names))
    with progress(len(names), "testing") as step:

        async def one(name: str) -> "Outcome":
            tested = await outcome(asked, name, lambda _, name: asked.probes.test(name))
            step()
            return name, tested

        return await asyncio.gather(*map(one, names))


def _order(result: "TestResult") -> tuple[bool, float, str]:
    """Good ones by time, then the others by name."""
    return not result.ok, (result.total_ms or 0.0) if result.ok else 0.0, result.proxy


def _row(result: "TestResult") -> tuple[object, ...]:
    why = ": ".join(filter(None, (result.reason, result.detail)))
    return (
        result.proxy,
        ok_cell(result.ok),
        "" if result.total_ms is None else milliseconds(result.total_ms),
        family_name(result.peer_family),
        result.egress_ip,
        _steps(result) if result.ok else why,
    )


def _steps(result: "TestResult") -> str:
    """``connect 0.4 ms, handshake 11 ms, first byte 8 ms``."""
    times = {step.replace("_", " "): getattr(result, f"{step}_ms") for step in _STEPS}
    return ", ".join(f"{step} {milliseconds(ms)}" for step, ms in times.items() if ms is not None)
