"""What comes out: a table for people, JSON with the raw pairs for everything else."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.pairs import Row
from tests.bench.programs import find

_HEAD = ("what", "unit", "ours", "theirs", "ratio", "middle half", "aim", "met?")
_VERSION_FLAGS = {"nginx": "-v", "squid": "-v", "privoxy": "--version"}


def table(rows: Iterable[Row]) -> str:
    lines = [_HEAD, *(line for row in rows for line in _lines(row))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def write_json(path: Path, rows: Sequence[Row], left_out: Sequence[str], seconds: float) -> None:
    path.parent.mkdir(exist_ok=True)
    content = {
        "machine": machine(),
        "seconds": round(seconds, 1),
        "left_out": list(left_out),
        "rows": [row.as_json() for row in rows],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "mitmproxy": version("mitmproxy"),
        **{name: _version(name, flag) for name, flag in _VERSION_FLAGS.items()},
    }


def _lines(row: Row) -> list[tuple[str, ...]]:
    low, high = row.quartiles
    cells = (row.what, row.unit, _number(row.ours), _number(row.theirs), f"{row.ratio:.3f}")
    first, *more = [(str(aim), "yes" if row.meets(aim) else "NO") for aim in row.aims] or [("", "")]
    return [
        (*cells, f"{low:.3f}-{high:.3f}", *first),
        *(("",) * 6 + aim for aim in more),
    ]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _version(name: str, flag: str) -> str | None:
    path = find(name)
    if path is None:
        return None
    output = subprocess.run(
        [path, flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    ).stdout
    return output.partition("\n")[0].strip()
