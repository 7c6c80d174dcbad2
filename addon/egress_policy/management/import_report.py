"""The result of an import, line by line and in words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, Literal, NamedTuple

from ..model.proxy import ProxyType
from .views import Spoken, View

LineOutcome = Literal["created", "updated", "differs", "skipped", "failed"]
_SHOWN_RANGES: Final = 8


class ImportLine(Spoken):
    """What became of one line or item, by its number from 1.

    ``differs``: a proxy of this name is there with other credentials, region, notes or tags, which
    an update would take; or the line has no name, and may be a proxy that is there with other
    credentials. ``assumes_type``: the line names no type, and ``type`` is the default.
    """

    line: int
    outcome: LineOutcome
    name: str = ""
    id: str = ""
    type: ProxyType | None = None
    assumes_type: bool = False
    field: str = ""
    message: str = ""


class ImportReport(View):
    """With ``dry_run`` nothing was kept. ``unit`` is what ``line`` counts. Lines that state
    nothing are skipped."""

    dry_run: bool
    unit: Literal["line", "item"] = "line"
    created: int
    updated: int
    differs: int
    skipped: int
    failed: int
    results: tuple[ImportLine, ...]


class ImportMessage(NamedTuple):
    """A message about some lines, by their numbers."""

    outcome: str
    text: str
    lines: tuple[int, ...]


def messages_of(report: ImportReport) -> list[ImportMessage]:
    """All messages, each once, in the order of the lines."""
    lines: dict[tuple[str, str], list[int]] = {}
    for one in report.results:
        if one.message:
            lines.setdefault((one.outcome, one.message), []).append(one.line)
    return [ImportMessage(*said, tuple(numbers)) for said, numbers in lines.items()]


def counts_of(report: ImportReport) -> str:
    """``2 proxies created, 1 skipped, 0 failed``; what is rarer is counted where there is any."""
    would = "would be " if report.dry_run else ""
    noun = "proxy" if report.created == 1 else "proxies"
    counts = [f"{report.created} {noun} {would}created"]
    if report.updated:
        counts.append(f"{report.updated} {would}updated")
    counts.append(f"{report.skipped} skipped")
    if report.differs:
        counts.append(f"{report.differs} {'differs' if report.differs == 1 else 'differ'}")
    return ", ".join([*counts, f"{report.failed} failed"])


def assumptions_of(report: ImportReport) -> Iterator[tuple[ProxyType, str]]:
    """For each type that was assumed: the type, and a sentence such as ``12 lines name no type:
    taken as socks5``."""
    assumed = Counter(one.type for one in report.results if one.assumes_type and one.type)
    for type_, number in assumed.items():
        subject = f"{number:,} {report.unit}s name" if number > 1 else f"1 {report.unit} names"
        yield type_, f"{subject} no type: taken as {type_}"


def numbers_in_words(numbers: Sequence[int]) -> str:
    """``3``, ``3-5 and 9``, ``1, 3, 5, … and 1,680 more``: ascending numbers in few words."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]
    words = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    left = sum(map(len, runs[_SHOWN_RANGES:]))
    if left:
        words = [*words[:_SHOWN_RANGES], f"{left:,} more"]
    return listed(words)


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
