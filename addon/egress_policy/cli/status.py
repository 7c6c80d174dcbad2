"""``status``: what is in force, and what flows took."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import click

from ..model.words import count
from .colour import Painted
from .command import examples
from .output import say, say_json
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.status import PolicyFileStatus, RegistryStatus, StatusView

    type Line = tuple[str, str | Painted]

_WIDTH: Final = 10
_MOST: Final = 10


@click.command(epilog=examples("status"))
@with_session
def status(session: Session) -> int:
    """Say what is in force, and what flows took."""
    found = session.read(lambda asked: asked.status())
    if session.json:
        say_json(found)
    else:
        _say(found)
    return 1 if found.state == "refusing" else 0


def _say(found: "StatusView") -> None:
    for name, what in _lines(found):
        say(name.ljust(_WIDTH), what)
    for problem in found.problems:
        say(Painted("problem   ", "bad"), problem)
    for warning in found.warnings:
        say(Painted("warning   ", "warn"), warning)


def _lines(found: "StatusView") -> "Iterator[Line]":
    is_good = found.state == "in force"
    yield "state", Painted(found.problem or found.state, "good" if is_good else "bad")
    yield "policy", _file(found.policy)
    if found.policy.error:
        yield "", Painted(f"its last edit is not in force: {found.policy.error}", "bad")
    yield "registry", _registry(found.registry)
    if found.registry and found.registry.error:
        yield "", Painted(found.registry.error, "bad")
    whence = {"option": "the option egress_default"}.get(
        found.default_from, f"the {found.default_from}"
    )
    yield "default", f"{found.default}, says {whence}"
    yield "DNS", ", ".join(found.dns.servers) or "as the system does"
    if not found.socks5:
        yield "SOCKS5", Painted("off: egress_socks5 is false, proxies of this type refuse", "warn")
    yield "page", found.listen or "none"
    yield from _flows(found)
    yield from _circuits(found)


def _file(policy: "PolicyFileStatus") -> str:
    if not policy.path:
        return "no policy file"
    return f"{policy.path}: {_entries(policy)}"


def _registry(registry: "RegistryStatus | None") -> str:
    if registry is None:
        return "none"
    assigned = count(registry.assignments, "assignment", "assignments")
    return f"{registry.name}: {_entries(registry)}, {assigned}"


def _entries(of: "PolicyFileStatus | RegistryStatus") -> str:
    return ", ".join(
        (
            count(of.proxies, "proxy", "proxies"),
            count(of.pools, "pool", "pools"),
            count(of.rules, "rule", "rules"),
        )
    )


def _flows(found: "StatusView") -> "Iterator[Line]":
    totals = found.totals
    words = {"proxy": "by proxies", "direct": "direct", "refuse": "refused"}
    uses = [f"{totals.by_use[use]} {word}" for use, word in words.items() if totals.by_use.get(use)]
    yield "flows", f"{totals.flows}" + (f": {', '.join(uses)}" if uses else "")
    if totals.unmatched:
        yield "", f"{totals.unmatched} took the default: no rule matched"
    if totals.by_proxy:
        yield "proxies", _most(totals.by_proxy)
    if totals.refusals:
        counts = Counter[str]()
        for one in totals.refusals:
            counts[one.reason or one.code] += one.count
        yield "refused", Painted(_most(counts), "bad")


def _most(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    shown = ", ".join(f"{name} {number}" for name, number in ordered[:_MOST])
    return shown + (f", and {len(ordered) - _MOST} more" if len(ordered) > _MOST else "")


def _circuits(found: "StatusView") -> "Iterator[Line]":
    circuits = found.circuits
    if circuits.open or circuits.half_open:
        said = f"{circuits.open} open, {circuits.half_open} half-open: `proxies list` shows which"
        yield "circuits", Painted(said, "warn")
    if found.checks.scheduled:
        yield "checks", f"{found.checks.scheduled} proxies are checked"
