"""What people and programs read: tables, JSON, one-line errors, a progress bar.

Names, notes and what peers answered are texts of others: nothing that is written here controls the
terminal. JSON is ASCII.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from pydantic import BaseModel

from ..errors import EgressError
from ..model.text import printable
from ..registry.errors import InUse

_BAR = 30


def say(text: str = "") -> None:
    print(printable(text, lines=True))  # noqa: T201 (this is what the command is for)


def say_data(text: str) -> None:
    """What is meant for a file or a program goes there as it is."""
    if sys.stdout.isatty():
        say(text.removesuffix("\n"))
    else:
        sys.stdout.write(text)


def warn(text: str) -> None:
    print(printable(text, lines=True), file=sys.stderr)  # noqa: T201


def say_error(error: EgressError) -> None:
    warn(f"egress-policy: {error}")
    if isinstance(error, InUse):
        users = (*error.usage.pools, *error.usage.rules, *error.usage.assignments)
        warn(f"  used by: {', '.join(printable(one.name) for one in users)}")
        warn("  --force deletes it all the same; what used it refuses from then on")


def say_json(value: BaseModel | Sequence[BaseModel] | dict[str, object]) -> None:
    if isinstance(value, BaseModel):
        plain: object = value.model_dump(mode="json")
    elif isinstance(value, dict):
        plain = value
    else:
        plain = [one.model_dump(mode="json") for one in value]
    say(json.dumps(plain, indent=1).replace("\x7f", "\\u007f"))


def say_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned; nothing but the head if there are no rows."""
    texts = [[_cell(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    for row in texts:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(padded).rstrip())


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


class Progress:
    """A bar on a terminal, and nothing elsewhere."""

    def __init__(self, total: int, what: str, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._what = total, what
        self._done = 0
        self._shown = self._stream.isatty() and total > 1

    def step(self) -> None:
        self._done += 1
        if self._shown and (
            self._done % max(1, self._total // 200) == 0 or self._done == self._total
        ):
            filled = _BAR * self._done // self._total
            bar = "#" * filled + "." * (_BAR - filled)
            line = f"{self._what} [{bar}] {self._done}/{self._total}"
            self._stream.write(f"\r{line[: shutil.get_terminal_size().columns - 1]}")
            self._stream.flush()

    def end(self) -> None:
        if self._shown:
            self._stream.write("\n")


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, tuple | list):
        return printable(", ".join(map(str, value))) or "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return printable(str(value))
