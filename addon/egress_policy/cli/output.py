"""What people and programs read: tables, JSON, errors, a progress bar.

Names, notes and what peers answered are texts of others: nothing that is written here controls the
terminal. JSON is ASCII. A table on a terminal is as wide as that; elsewhere nothing is cut.
"""

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import zip_longest
from operator import sub
from typing import TYPE_CHECKING, Any, Final
from unicodedata import east_asian_width

from ..errors import EgressError, InUse
from ..model.text import printable

if TYPE_CHECKING:
    from pydantic import BaseModel

_GAP: Final = 2
_NARROWEST: Final = 4
_NARROWEST_LAST: Final = 20


def say(text: str = "") -> None:
    print(printable(text, lines=True))  # noqa: T201 (this is what the command is for)


def say_data(text: str) -> None:
    """Write data: unchanged to a file or program, printable to a terminal."""
    if sys.stdout.isatty():
        say(text.removesuffix("\n"))
    else:
        sys.stdout.write(text)


def warn(text: str) -> None:
    print(printable(text, lines=True), file=sys.stderr)  # noqa: T201


# -- errors


def is_json_asked(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, judged before it is parsed."""
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def problem_of(error: EgressError) -> dict[str, Any]:
    """An error under the names that the management API gives its members."""
    detail = ". ".join([str(error), *getattr(error, "__notes__", ())])
    problem: dict[str, Any] = {"code": error.code, "detail": detail}
    if pairs := error.by_field:
        problem["errors"] = [{"field": field, "message": text} for field, text in pairs]
    if isinstance(error, InUse):
        problem["usage"] = {"count": error.usage.count, **asdict(error.usage)}
    return problem


def say_problem(problem: Mapping[str, Any], *, as_json: bool, about: str = "") -> None:
    """JSON goes to stdout, where a program reads the answer; text goes to stderr."""
    if as_json:
        say_json(dict(problem))
        return
    warn(f"egress-policy: {f'{about}: ' if about else ''}{problem['detail']}")
    if usage := problem.get("usage"):
        users = [one for kind in ("pools", "rules", "assignments") for one in usage[kind]]
        warn(f"  used by: {', '.join(printable(one['name']) for one in users)}")
        warn("  --force deletes it anyway; what used it refuses from then on")


# -- answers


def plain(value: Any) -> Any:
    """Views as what JSON has."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


def say_json(value: "BaseModel | Sequence[Any] | dict[str, Any]") -> None:
    say(json.dumps(plain(value), indent=1).replace("\x7f", "\\u007f"))


def say_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns. Without rows there is only the head."""
    texts = [list(head), *([_cell(cell) for cell in row] for row in rows)]
    texts, widths = _fitted(texts, _columns())
    for row in texts:
        wrapped = [_cut(text, width) for text, width in zip(row[:-1], widths, strict=False)]
        for line in _lines(wrapped, row[-1], widths[-1]):
            padded = (cell + " " * (w - _width(cell)) for cell, w in zip(line, widths, strict=True))
            say((" " * _GAP).join(padded).rstrip())


def say_fields(view: "BaseModel | dict[str, Any]") -> None:
    """One entry, a field a line."""
    shown = dict(plain(view))
    if isinstance(shown.get("password"), dict):
        shown["password"] = "set" if shown["password"]["set"] else "none"
    rows = ((k, json.dumps(v) if isinstance(v, dict) else v) for k, v in shown.items())
    say_table(("FIELD", "VALUE"), rows)


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, nothing elsewhere. Gives a function to call at each step."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    import click

    with click.progressbar(length=total, label=what, file=sys.stderr) as bar:
        yield lambda: bar.update(1)


# -- the width of a table


def _columns() -> int | None:
    """What fits on the terminal; ``None`` where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fitted(texts: list[list[str]], room: int | None) -> tuple[list[list[str]], list[int]]:
    """The rows, with a width for each column. A table that is too wide loses its empty columns,
    then the width that only heads need (the last column is wrapped), then some of the widest."""
    widths = _widths(texts)
    if room is None or _total(widths) <= room:
        return texts, widths
    kept = [column for column in range(len(widths)) if {row[column] for row in texts[1:]} - {"-"}]
    texts = [[row[column] for column in kept or [0]] for row in texts]
    widths = _widths(texts)
    needed = [max(width, _NARROWEST) for width in _widths(texts[1:] or texts)]
    needed[-1] = _NARROWEST_LAST
    lowest = [_NARROWEST] * (len(widths) - 1) + [_NARROWEST_LAST]
    while _total(widths) > room and max(widths) > _NARROWEST:
        spare = list(map(sub, widths, needed))
        if max(spare) <= 0:
            spare = list(map(sub, widths, lowest))
        widths[spare.index(max(spare))] -= 1
    return texts, widths


def _widths(texts: list[list[str]]) -> list[int]:
    return [max(map(_width, column)) for column in zip(*texts, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _width(text: str) -> int:
    """How many columns of a terminal it takes: Chinese characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _lines(cells: list[str], last: str, width: int) -> Iterator[list[str]]:
    """The last column explains, so it is wrapped instead of cut."""
    narrow = width if last.isascii() else width // 2  # textwrap counts characters
    rest = textwrap.wrap(last, narrow) if _width(last) > width else [last]
    for line, part in zip_longest([cells], rest):
        yield [*(line or [""] * len(cells)), part]


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, tuple | list):
        return printable(", ".join(map(str, value))) or "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return printable(str(value))
