"""A YAML 1.2 or JSON text as plain data, with the line number of each part.

PyYAML, with libyaml if available, splits the text; this module gives the parts their meaning by the
core schema of YAML 1.2 (chapter 10.3), and also reads ``1_000`` and ``0b11`` as numbers. The result
holds only what JSON knows: mappings with text keys, lists, texts, numbers, booleans, null. Text
that PyYAML splits by the rules of YAML 1.1, such as ``[::1]`` without quotes, is an error. Messages
never quote a value: in a broken document anything may be a secret.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NoReturn

import yaml

_LOADER: Final = getattr(yaml, "CLoader", yaml.Loader)
_DEEPEST: Final = 100
_MOST_MERGED: Final = 500_000
"""Keys that ``<<`` may copy: a short text could otherwise become gigabytes."""
_MOST_PARTS: Final = 1_000_000
"""Values, beginnings and ends in a list of others: a few bytes each become a hundred times more."""
_TAG: Final = "tag:yaml.org,2002:"
_NO_VALUE: Final = "a date or a tag is not a value here; quote the text"

_NULL: Final = re.compile("~|null|Null|NULL|")
_BOOL: Final = re.compile("(true|True|TRUE)|false|False|FALSE")
_INT: Final = re.compile("[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_DATE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9:.]+[ \tZ0-9:+-]*"
)
_LIKE_A_VALUE: Final = frozenset("-+.~0123456789nNtTfF")
"""First characters of plain scalars that may be something other than a text."""
# Named one by one: a set of all others takes ten times as long to compile.
_NOT_PRINTED: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]"
)
"""Characters that must be escaped. U+0085, U+2028 and U+2029 are among them, because they end a
line in YAML 1.1 but not in YAML 1.2 and JSON."""
_BARE_IPV6: Final = re.compile(r"[\[{,:]\s*::")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_QUOTED: Final = re.compile(r"""(["'])[^"'\s]{2,}\1""")
"""Text that PyYAML repeats in a message."""


class YamlProblem(ValueError):
    """Why a text is no document: the message in ``str()``, the line (from 1) and the key."""

    def __init__(self, message: str, line: int = 1, key: str = "yaml") -> None:
        super().__init__(message)
        self.line = line
        self.key = key


@dataclass(slots=True)
class _Tree:
    """``lines`` maps the ``id`` of each list and mapping to the lines (from 0) of its parts."""

    data: object = None
    lines: dict[int, dict[str | int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """``data`` is plain; a text, list or mapping that an alias repeats is the same object."""

    data: object
    tree: Callable[[], _Tree]

    def line(self, location: tuple[str | int, ...]) -> int:
        """The line, from 1, of the deepest part of ``location`` that exists in the text."""
        tree = self.tree()
        node: Any = tree.data
        line = 0
        for part in location:
            places = tree.lines.get(id(node))
            if not places or part not in places:
                break
            line, node = places[part], node[part]
        return line + 1


def parse_yaml(text: str, *, as_text: bool = False) -> Document:
    """Parse one document. Raises ``YamlProblem`` and nothing else.

    With ``as_text``, for the text of a stranger, scalars of YAML without quotes stay the texts that
    they are written as, unless they are null, and a document of very many parts is an error.
    ``json`` reads JSON, because it is fast and not all JSON is YAML (pairs of surrogates).
    """
    if text.lstrip().startswith(("{", "[")):
        try:
            data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
            json.dumps(data, ensure_ascii=False).encode()  # fails for a lone surrogate
        except (ValueError, RecursionError):
            pass  # reading it as YAML says where the fault is
        else:
            return Document(data, cache(lambda: _lines_of(text)))
    tree = _read(text, as_text)
    return Document(tree.data, lambda: tree)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("duplicate key")
    return mapping


def _no_constant(_: str) -> NoReturn:
    raise ValueError("JSON has no NaN and no infinity")


def _lines_of(text: str) -> _Tree:
    """The lines of a JSON text, once everything that YAML does not know is replaced."""
    plain = _ESCAPED_SURROGATE.sub(r"\\ufffd", _NOT_PRINTED.sub("?", text))
    try:
        return _read(plain)
    except YamlProblem:
        return _Tree()


def _read(text: str, as_text: bool = False) -> _Tree:
    if found := _NOT_PRINTED.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise YamlProblem("control characters and line separators are not allowed", line)
    try:
        return _Reader(as_text).read(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        lines = text.splitlines()
        # For a text that ends too early, libyaml names a line after the last.
        line = min(mark.line + 1, len(lines)) if mark else 1
        why = _QUOTED.sub("…", str(error.problem or error.context or "not YAML")).splitlines()[0]
        if lines and _BARE_IPV6.search(lines[line - 1]):
            why += "; within [ ] and { } an IPv6 address that begins with :: needs quotes"
        raise YamlProblem(why, max(line, 1)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, YamlProblem):
            raise
        raise YamlProblem("not YAML") from error


@dataclass(slots=True)
class _Open:
    """An unfinished list or mapping. ``key`` belongs to the value that comes next."""

    holder: Any
    lines: dict[str | int, int]
    key: str | None = None
    merged: list[dict[str, object]] | None = None
    """Mappings that supply missing keys (``<<``); ``None`` without such a key."""
    merging: bool = False
    """Whether the next value is such a mapping, or a list of them."""


class _Reader:
    """Builds one tree from events."""

    def __init__(self, as_text: bool) -> None:
        self._tree = _Tree()
        self._as_text = as_text
        self._merged = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, object] = {}
        self._documents = 0

    def read(self, events: Iterator[Any]) -> _Tree:
        most = _MOST_PARTS if self._as_text else None
        for number, event in enumerate(events):
            if number == most:
                raise _problem(f"it has more than {most:,} parts", event)
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._begin(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._end(event)
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent:
                self._documents += 1
                if self._documents > 1:
                    raise _problem("a single document is expected", event)
                if event.version not in (None, (1, 2)):
                    raise _problem("the file is read as YAML 1.2: remove the %YAML line", event)
        return self._tree

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise _problem("an alias has no anchor before it", event)
        value = self._anchors[event.anchor]
        if any(value is one.holder for one in self._open):
            raise _problem("an alias repeats the value that contains it", event)
        self._put(value, event)

    def _scalar(self, event: Any) -> None:
        opened = self._open[-1] if self._open else None
        plain = event.tag is None and event.implicit[0]
        if plain and event.value == "<<" and opened and _wants_key(opened):
            if opened.merged is not None:
                raise _problem("duplicate key", event)
            opened.merged, opened.merging = [], True
            return
        value = self._unquoted(event) if plain else _tagged(event)
        if event.anchor:
            self._anchors[event.anchor] = value
        self._put(value, event)

    def _unquoted(self, event: Any) -> object:
        if self._as_text:
            return None if _NULL.fullmatch(event.value) else event.value
        return _plain(event)

    def _begin(self, event: Any, holder: Any) -> None:
        kind = "map" if isinstance(holder, dict) else "seq"
        if event.tag not in (None, _TAG + kind):
            raise _problem(_NO_VALUE, event)
        if len(self._open) == _DEEPEST:
            raise _problem("nested too deeply", event)
        if event.anchor:
            self._anchors[event.anchor] = holder
        lines: dict[str | int, int] = {}
        self._tree.lines[id(holder)] = lines
        opened = _Open(holder, lines)
        if self._open and self._open[-1].merging:
            self._open.append(opened)  # merged when it is complete
        else:
            self._put(holder, event)
            self._open.append(opened)

    def _end(self, event: Any) -> None:
        ended = self._open.pop()
        for mapping in ended.merged or ():
            self._merged += len(mapping)
            if self._merged > _MOST_MERGED:
                raise _problem("<< repeats too much", event)
            for key, value in mapping.items():
                ended.holder.setdefault(key, value)
        if self._open and self._open[-1].merging:
            self._put(ended.holder, event)

    def _put(self, value: object, event: Any) -> None:
        """Put a value, or a key, where it belongs."""
        if not self._open:
            self._tree.data = value
            return
        opened = self._open[-1]
        if isinstance(opened.holder, list):
            opened.lines[len(opened.holder)] = event.start_mark.line
            opened.holder.append(value)
        elif opened.merging:
            self._merge(opened, value, event)
        elif opened.key is not None:
            opened.holder[opened.key] = value
            opened.key = None
        elif not isinstance(value, str):
            raise _problem("a key must be a text", event)
        elif value in opened.holder:
            named = value if re.fullmatch("[A-Za-z0-9_-]+", value) else "yaml"
            raise _problem("duplicate key", event, named)
        else:
            opened.lines[value] = event.start_mark.line
            opened.key = value

    def _merge(self, opened: _Open, value: object, event: Any) -> None:
        assert opened.merged is not None
        for mapping in value if isinstance(value, list) else [value]:
            if not isinstance(mapping, dict):
                raise _problem("<< needs a mapping or a list of mappings", event)
            opened.merged.append(mapping)
        opened.merging = False


def _wants_key(opened: _Open) -> bool:
    return isinstance(opened.holder, dict) and opened.key is None and not opened.merging


def _plain(event: Any) -> object:
    """The value of an unquoted scalar without a tag."""
    text: str = event.value
    if text and text[0] not in _LIKE_A_VALUE:
        return text
    if _NULL.fullmatch(text):
        return None
    if found := _BOOL.fullmatch(text):
        return found[1] is not None
    if _INT.fullmatch(text):
        return _integer(text, event)
    if _FLOAT.fullmatch(text):
        plain = text.replace("_", "").lower()
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    if _DATE.fullmatch(text):
        raise _problem(_NO_VALUE, event)
    return text


def _tagged(event: Any) -> object:
    """The value of a scalar with quotes or a tag."""
    tag, text = event.tag, event.value
    if _SURROGATE.search(text):
        raise _problem("a lone surrogate is not allowed", event)
    if tag in (None, _TAG + "str"):
        return text
    value = _plain(event)
    kinds = {"null": type(None), "bool": bool, "int": int, "float": float}
    if type(value) is not kinds.get(tag.removeprefix(_TAG)):
        raise _problem(_NO_VALUE, event)
    return value


def _integer(text: str, event: Any) -> int:
    digits = text.replace("_", "")
    try:
        # Unlike in a Python literal, a decimal number may begin with zero.
        return int(digits, 0 if digits.lstrip("+-")[:2] in ("0b", "0o", "0x") else 10)
    except ValueError as error:  # no digit, or thousands of them
        raise _problem("not a number that can be read", event) from error


def _problem(message: str, event: Any, key: str = "yaml") -> YamlProblem:
    return YamlProblem(message, event.start_mark.line + 1, key)
