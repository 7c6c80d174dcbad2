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
from typing import TYPE_CHECKING, Any, Final, TextIO
from unicodedata import east_asian_width

from ..errors import EgressError, InUse
from ..model.text import printable
from .colour import Painted, Style, paint

if TYPE_CHECKING:
    from pydantic import BaseModel

_GAP: Final = 2
_NARROWEST: Final = 4
_NARROWEST_LAST: Final = 20


def say(*parts: str | Painted) -> None:
    """Print a line of texts, each in its colour."""
    _write("".join(_painted(part, sys.stdout) for part in parts), sys.stdout)


def say_data(text: str) -> None:
    """Write data: unchanged to a file or program, printable to a terminal."""
    if sys.stdout.isatty():
        say(text.removesuffix("\n"))
    else:
        sys.stdout.write(text)


def warn(*parts: str | Painted) -> None:
    """Print a line on standard error."""
    _write("".join(_painted(part, sys.stderr) for part in parts), sys.stderr)


def _write(line: str, stream: TextIO) -> None:
    print(line, file=stream)


def _painted(part: str | Painted, stream: TextIO) -> str:
    value, style = part if isinstance(part, Painted) else (part, None)
    return paint(printable(str(value), lines=True), style, stream)


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
    about = f"{about}: " if about else ""
    warn(Painted("egress-policy:", "bad"), f" {about}{problem['detail']}")
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
    """Print aligned columns. A cell may be ``Painted``. Without rows there is only the head."""
    cells = [list(row) for row in rows]
    styles: list[list[Style | None]] = [["head" for _ in head]]
    styles += [[_style(cell) for cell in row] for row in cells]
    texts = [list(head), *([_cell(cell) for cell in row] for row in cells)]
    kept = _kept(texts, _columns())
    texts = [[row[at] for at in kept] for row in texts]
    styles = [[row[at] for at in kept] for row in styles]
    widths = _fitted(texts, _columns())
    for row, painted in zip(texts, styles, strict=True):
        wrapped = [_cut(text, width) for text, width in zip(row[:-1], widths, strict=False)]
        for line in _lines(wrapped, row[-1], widths[-1]):
            _say_row(line, widths, painted)


def _say_row(cells: Sequence[str], widths: Sequence[int], styles: Sequence[Style | None]) -> None:
    padding = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    end = max((at for at, cell in enumerate(cells) if cell), default=-1) + 1
    padding[max(end - 1, 0)] = ""  # nothing ends with spaces
    shown = (
        paint(cell, style, sys.stdout) + pad
        for cell, style, pad in zip(cells[:end], styles, padding, strict=False)
    )
    _write((" " * _GAP).join(shown), sys.stdout)


def say_fields(view: "BaseModel | dict[str, Any]") -> None:
    """One entry, a field a line. On a terminal fields without a value are left out."""
    shown = dict(plain(view))
    if _columns() is not None:
        shown = {name: value for name, value in shown.items() if value not in (None, "", [])}
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


def _kept(texts: list[list[str]], room: int | None) -> list[int]:
    """The columns to show: a table that is too wide loses its empty ones."""
    every = list(range(len(texts[0])))
    if room is None or _total(_widths(texts)) <= room:
        return every
    return [at for at in every if {row[at] for row in texts[1:]} - {"-"}] or [0]


def _fitted(texts: list[list[str]], room: int | None) -> list[int]:
    """A width for each column. A table that is too wide loses the width that only heads need (the
    last column is wrapped), then some of the widest."""
    widths = _widths(texts)
    if room is None or _total(widths) <= room:
        return widths
    needed = [max(width, _NARROWEST) for width in _widths(texts[1:] or texts)]
    needed[-1] = _NARROWEST_LAST
    lowest = [_NARROWEST] * (len(widths) - 1) + [_NARROWEST_LAST]
    while _total(widths) > room and max(widths) > _NARROWEST:
        spare = list(map(sub, widths, needed))
        if max(spare) <= 0:
            spare = list(map(sub, widths, lowest))
        widths[spare.index(max(spare))] -= 1
    return widths


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


def _style(value: object) -> Style | None:
    return value.style if isinstance(value, Painted) else None


def _cell(value: object) -> str:
    if isinstance(value, Painted):
        value = value.value
    if value is None or value == "":
        return "-"
    if isinstance(value, tuple | list):
        return printable(", ".join(map(str, value))) or "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return printable(str(value))
