"""``test``: tests of proxies through their pinned hops."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import EgressError, InvalidEntry
from .command import examples
from .entries import in_json, outcome
from .names import ALL, Name
from .output import problem_of, progress, say_json, say_problem, say_table
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.test_result import TestResult
    from .running import Asked

    type Outcome = tuple[str, TestResult | EgressError]

_HEAD = (
    "PROXY", "RESULT", "FAMILY", "ADDRESS", "DNS", "CONNECT", "HANDSHAKE", "FIRST BYTE",
    "EGRESS IP", "WHY",
)  # fmt: skip


@click.command(epilog=examples("test home-1 home-2", "test --all --json"))
@click.argument("names", nargs=-1, metavar="[NAME...]", type=Name("proxies"))
@click.option("--all", "all_active", is_flag=True, help="every active proxy")
@click.option("--dns", multiple=True, metavar="SERVER", help="option egress_dns")
@with_session
def test(session: Session, names: Sequence[str], all_active: bool) -> int:
    """Test proxies through their pinned hops. Times are in milliseconds."""
    if not names and not all_active:
        raise InvalidEntry("Name the proxies to test, or give --all", "names")
    outcomes = session.read(lambda asked: _tested(asked, names, all_active))
    results = [one for _, one in outcomes if not isinstance(one, EgressError)]
    if session.json:
        say_json([in_json(one, {"ok": False, "proxy": name}) for name, one in outcomes])
    else:
        if results or not outcomes:
            say_table(_HEAD, map(_row, results))
        for name, error in outcomes:
            if isinstance(error, EgressError):
                say_problem(problem_of(error), as_json=False, about=name)
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


def _row(result: "TestResult") -> tuple[object, ...]:
    times = (result.dns_ms, result.connect_ms, result.handshake_ms, result.first_byte_ms)
    outcome = "ok" if result.ok else result.reason
    seen = (result.proxy, outcome, result.peer_family or result.family, result.address)
    return (*seen, *times, result.egress_ip, result.detail)
