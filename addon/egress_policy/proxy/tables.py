"""The tables that commands show at mitmproxy's prompt.

mitmproxy divides the width by the number of columns, whatever is in them: at 80 characters three
columns can be read, the first of 24 and two of 19. So what belongs together shares a column.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, cast

from mitmproxy import types

from ..management.exit_views import ProxyExits
from ..management.explain import EgressView, Explanation
from ..management.proxies import ProxyView
from ..management.states import why_now
from ..management.test_result import TestResult
from ..model.text import printable
from ..model.words import count, milliseconds

if TYPE_CHECKING:
    from ..management.members import MemberView
    from ..management.rules import RuleView

_CONDITIONS: Final = 5
"""How many hosts, clients and ports of a rule are shown."""


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> types.Data:
    """mitmproxy takes text and numbers."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    return cast(types.Data, [[*head], *cells])


def proxies(found: Iterable[ProxyView]) -> types.Data:
    return table(("name", "proxy", "status"), map(_proxy, found))


def exits(found: Iterable[ProxyExits]) -> types.Data:
    return table(("proxy", "exit", "verdict"), (row for one in found for row in _exits(one)))


def members(found: "Iterable[MemberView]", notes: Iterable[str]) -> types.Data:
    rows = [*map(_member, found), *(("=>", "", note) for note in notes)]
    return table(("proxy", "state", "use"), rows)


def rules(found: "Iterable[RuleView]") -> types.Data:
    return table(("rule", "matches", "use"), map(_rule, found))


def explanation(found: Explanation, before: Iterable[tuple[str, str, str]] = ()) -> types.Data:
    """The rules around the deciding one, then what they come to; rows ``before`` go first."""
    rows = [*before]
    if found.rules_before:
        rows.append(("...", "not matched", f"{found.rules_before} rules before these"))
    rows += [(trace.rule, trace.verdict, trace.why) for trace in found.rules]
    if found.rules_after:
        rows.append(("...", "not reached", f"{found.rules_after} rules more"))
    rows.append(("=>", found.outcome, found.detail or found.why))
    rows += [(one.name, one.type, way(one)) for one in found.egresses]
    rows += [(one.proxy, "left out", one.why) for one in found.left_out]
    if found.note:
        rows.append(("=>", "", found.note))
    return table(("rule", "verdict", "why"), rows)


def outcome(result: TestResult | None) -> str:
    """What a test of a proxy came to; empty if there was none."""
    if result is None:
        return ""
    if not result.ok:
        return result.detail or result.reason
    seen = f", egress IP {result.egress_ip}" if result.egress_ip else ""
    return f"ok in {milliseconds(result.total_ms or 0)}{seen}"


def way(egress: EgressView) -> str:
    """What would be dialled, and how it fares where it does not fare well."""
    place, now = f"{egress.host} port {egress.port}, {egress.family}", egress.now
    if egress.target_family:
        place += f", target over {egress.target_family}"
    return (
        place if now is None or now.state == "closed" else f"{place}; {now.state}: {why_now(now)}"
    )


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _proxy(one: ProxyView) -> tuple[str, ...]:
    tested = outcome(one.last_test)
    status = _joined(
        one.problem or one.status,
        one.now.state if one.now else "",
        f"used by {one.used_by}" if one.used_by else "",
        f"test: {tested}" if tested else "",
        "policy file" if one.source == "file" else "",
    )
    return one.name, f"{one.type} {one.host} port {one.port}, {one.family}", status


def _exits(one: ProxyExits) -> Iterable[tuple[str, ...]]:
    if not one.exits:
        yield one.proxy, "", _joined("unknown", one.why)
    for seen in one.exits:
        verdict = _joined(seen.verdict, f"seen {seen.at}" if seen.at else "", one.why)
        yield one.proxy, f"{seen.family} {seen.address}", verdict


def _member(one: "MemberView") -> tuple[str, ...]:
    connections = f"{one.active}/{one.limit}" if one.limit else f"{one.active}"
    share = "-" if one.share is None else f"{one.share:.0%}"
    use = f"{connections} open, share {share} (due {one.expected_share:.0%})"
    why = why_now(one)
    return one.proxy, f"{one.status}, {one.state}", f"{use}; {why}" if why else use


def _rule(one: "RuleView") -> tuple[str, ...]:
    conditions = (
        _some(one.hosts),
        f"from {_some(map(str, one.clients))}" if one.clients else "",
        f"port {_some(map(str, one.ports))}" if one.ports else "",
        one.filter,
    )
    use = one.use if isinstance(one.use, str) else one.use.name
    problem = one.problem or one.refuses
    hits = count(one.hits, "hit", "hits") if one.hits else ""
    said = _joined(use, "policy file" if one.source == "file" else "", hits, one.never)
    matches = "; ".join(filter(None, conditions)) or "everything"
    return one.label, matches, f"{said}; refuses: {problem}" if problem else said


def _some(texts: Iterable[str]) -> str:
    all_ = tuple(texts)
    more = len(all_) - _CONDITIONS
    return " ".join(all_[:_CONDITIONS]) + (f" and {more} more" if more > 0 else "")
