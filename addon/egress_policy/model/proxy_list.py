"""A whole list of proxies as lines of text, CSV or JSON. Exports of ``management/export.py`` read
back unchanged.

``proxy_line.py`` reads the lines of text. A line that is no proxy but names a protocol, in whatever
decoration (``[socks5]``, ``# --- HTTP proxies:``), gives its type to the lines below that name
none; see ``headings.py``. CSV begins with a line of column names, ``host`` and ``port`` among
them; commas, semicolons or tabs separate its cells. JSON is a list of objects, or an object with
such a list as ``items``.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from ..errors import InvalidEntry
from ..sentence import Sentence
from .headings import Section, heading_problem, parse_heading
from .list_entry import ProxyEntry, field_from_text, load_json, read_object
from .proxy import Proxy, ProxyType
from .proxy_line import parse_proxy_line
from .proxy_url import parse_port, read_proxy_type
from .spreadsheet import restore

ListResult = ProxyEntry | InvalidEntry | None
"""The result for a line or an item: a proxy, an error, or nothing."""

LEFT_OUT: Final = "password_set"
"""The CSV column that marks passwords which were left out."""

_DEFAULT_TYPE: Final[ProxyType] = "socks5"
_TYPES: Final = "http, https or socks5"
_JSON: Final = re.compile(r"\s*(?:\[\s*[\]{]|\{\s*(?:\n|\"items\"))")
_DELIMITERS: Final = ",;\t"
_COLUMNS: Final = frozenset({*Proxy.model_fields, LEFT_OUT})
_FLAGS: Final = {"": False, "false": False, "true": True}


class ProxyList(NamedTuple):
    """The results by number of line or item, from 1. ``total`` is about how many there are, and
    ``unit`` is what is counted."""

    unit: Literal["line", "item"]
    entries: Iterable[tuple[int, ListResult]]
    total: int


def parse_proxy_list(text: str, default_type: ProxyType | None = None) -> ProxyList:
    """Parse a list in any form. ``default_type`` applies to entries that name no type; by default
    lines and rows are socks5, and JSON items get the default of ``Proxy``. Never raises: an
    ``InvalidEntry`` takes the place of an entry that cannot be read."""
    text = text.removeprefix("\ufeff")
    total = text.count("\n") + 1
    if _JSON.match(text):
        items = list(_json_items(text, default_type))
        return ProxyList("item", items, len(items))
    if delimiter := _csv_delimiter(text):
        return ProxyList("line", _csv_rows(text, delimiter, default_type or _DEFAULT_TYPE), total)
    return ProxyList("line", _text_lines(text, default_type or _DEFAULT_TYPE), total)


def items_of(
    items: Iterable[object], default_type: ProxyType | None = None
) -> Iterator[ListResult]:
    """The result for each item: an entry or an error. Never raises."""
    for item in items:
        yield _attempt(read_object, item, default_type)


def _attempt(read: Callable[..., ProxyEntry | None], *args: object) -> ListResult:
    try:
        return read(*args)
    except InvalidEntry as error:
        return error


# -- text


def _text_lines(text: str, default_type: ProxyType) -> Iterator[tuple[int, ListResult]]:
    """Split at line feeds alone. Any other line end counts as a hidden character."""
    section: Section = default_type
    heading = 0
    lines = text.split("\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        type_ = _DEFAULT_TYPE if section == "unknown" else section
        result = _attempt(parse_proxy_line, line, type_)
        if isinstance(result, ProxyEntry):
            if result.assumes_type and section == "unknown":
                result = _typeless(heading)
        elif found := parse_heading(line):
            section, heading = found, number
            result = result and heading_problem(line, found, result)
        yield number, result


def _typeless(heading: int) -> InvalidEntry:
    return InvalidEntry(
        Sentence(
            "heading_typeless",
            "No proxy type: line {line} is a heading, but names no single type of {types}; name "
            "one there, or write http://, https:// or socks5:// before each line",
            line=heading,
            types=_TYPES,
        ),
        "type",
    )


# -- CSV


def _csv_delimiter(text: str) -> str | None:
    """The cell separator, if the first line that is not blank has the required column names."""
    head = text.lstrip().partition("\n")[0]
    for delimiter in _DELIMITERS:
        if {"host", "port"} <= set(_column_names(head.split(delimiter))):
            return delimiter
    return None


def _column_names(cells: Iterable[str]) -> list[str]:
    return [cell.strip(' \t\r"').lower() for cell in cells]


def _csv_rows(
    text: str, delimiter: str, default_type: ProxyType
) -> Iterator[tuple[int, ListResult]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    number = 1
    try:
        for cells in reader:
            if not names and any(cells):
                names = _column_names(cells)
                if problem := _misnamed(names):
                    yield number, problem
                    return
                yield number, None
            else:
                yield number, _row(names, cells, default_type)
            number = reader.line_num + 1
    except csv.Error as error:
        yield (
            number,
            InvalidEntry(
                Sentence(
                    "not_csv", "Reading stops here, because this is not CSV: {why}", why=str(error)
                )
            ),
        )


def _misnamed(names: list[str]) -> InvalidEntry | None:
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown:
        return InvalidEntry(
            Sentence(
                "column_unknown",
                "Unknown column {name!r}: use {known}",
                name=unknown[0],
                known=", ".join(sorted(_COLUMNS)),
            )
        )
    if len(set(names)) < len(names):
        return InvalidEntry(Sentence("column_twice", "A column name appears twice"))
    return None


def _row(names: list[str], cells: list[str], default_type: ProxyType) -> ListResult:
    if not any(cells):
        return None
    if len(cells) != len(names):
        return InvalidEntry(
            Sentence(
                "row_cells",
                "This row has {cells} cells under {columns} columns",
                cells=len(cells),
                columns=len(names),
            )
        )
    fields: dict[str, Any] = {
        name: restore(cell) if name == "port" else field_from_text(name, restore(cell))
        for name, cell in zip(names, cells, strict=True)
        if cell
    }
    return _attempt(_row_entry, fields, default_type)


def _row_entry(fields: dict[str, Any], default_type: ProxyType) -> ProxyEntry:
    """Messages quote nothing, because cells may be shifted."""
    is_set = _FLAGS.get(fields.pop(LEFT_OUT, "").lower())
    if is_set is None:
        raise InvalidEntry(
            Sentence("true_or_false", "Invalid {field}: it must be true or false", field=LEFT_OUT),
            LEFT_OUT,
        )
    type_ = read_proxy_type(fields["type"]) if "type" in fields else default_type
    if type_ is None:
        raise InvalidEntry(
            Sentence("type_words", "Invalid proxy type: it must be http, https or socks5"), "type"
        )
    return ProxyEntry(
        {**fields, "type": type_, "port": parse_port(fields.get("port", ""))},
        assumes_type="type" not in fields,
        lacks_password=is_set and "password" not in fields,
    )


# -- JSON


def _json_items(text: str, default_type: ProxyType | None) -> Iterator[tuple[int, ListResult]]:
    try:
        document = load_json(text)
    except InvalidEntry as error:
        yield 1, error
        return
    items = document.get("items") if isinstance(document, Mapping) else document
    if isinstance(items, list):
        yield from enumerate(items_of(items, default_type), 1)
    else:
        yield (
            1,
            InvalidEntry(
                Sentence(
                    "list_expected",
                    'A list of proxies is expected, or an object with one as "items"',
                )
            ),
        )
