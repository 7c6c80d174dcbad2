"""A YAML 1.2 or JSON text as plain data, with the line of everything in it.

Only what JSON knows comes out: mappings with text keys, lists, texts, numbers, booleans, null.
Messages never quote a value: in a document that is broken anything may be a secret.
"""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

# What JSON and YAML read differently, or only one of them: characters that YAML does not print or
# takes for the end of a line, escaped surrogates, a colon on the next line, and deep nesting.
_NOT_BOTH: Final = re.compile(
    r"[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
    r"|\\u[dD]|\n *:|(?:[\[{][ \n]*){30}"
)
_LONGEST_KEY: Final = 900  # in YAML about 1024, with its quotes and escapes
_DUPLICATE: Final = re.compile(r'found duplicate key "([A-Za-z0-9_-]+)"')
_QUOTED: Final = re.compile(r"""(["']).{2,}\1""", re.DOTALL)


class YamlProblem(ValueError):
    """Why a text is not a document: ``str()``, and the line (from 1) and key where."""

    def __init__(self, message: str, line: int = 1, key: str = "yaml") -> None:
        super().__init__(message)
        self.line = line
        self.key = key


@dataclass(frozen=True, slots=True)
class Document:
    """``data`` is plain; texts, lists and mappings that an alias repeats are the same object."""

    data: object
    tree: Callable[[], Any]
    """Slow where the text was read without it: only what is wrong needs a line."""

    def line(self, location: tuple[str | int, ...]) -> int:
        """The line, from 1, of the deepest part of ``location`` that the text has."""
        node, line = self.tree(), 0
        for part in location:
            places = node.lc.data if isinstance(node, CommentedMap | CommentedSeq) else None
            if not places or part not in places:
                break
            line, node = places[part][0], node[part]
        return line + 1


def parse_yaml(text: str) -> Document:
    """Parse one document. Raises ``YamlProblem`` and nothing else.

    JSON is read by ``json``, in a hundredth of the time, where both readings give the same; all
    else, and all that is wrong with JSON, is for the YAML reading.
    """
    if text.startswith(("{", "[")) and not _NOT_BOTH.search(text):
        try:
            data = json.loads(
                text,
                object_pairs_hook=_unique,
                parse_float=_for_yaml,
                parse_constant=_for_yaml,
            )
        except (ValueError, RecursionError):
            pass
        else:
            return Document(data, cache(lambda: _read_tree(text)))
    return _parse_slowly(text)


def _read_tree(text: str) -> Any:
    """For lines alone; ``None``, which has none, where YAML does not take what JSON does."""
    try:
        return _parse_slowly(text).tree()
    except YamlProblem:
        return None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs) or max(map(len, mapping), default=0) > _LONGEST_KEY:
        raise ValueError("a key that YAML does not take")
    return mapping


def _for_yaml(_: str) -> NoReturn:
    raise ValueError("a number that YAML may read differently")


def _parse_slowly(text: str) -> Document:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about style, to stderr
            tree = YAML(typ="rt", pure=True).load(text)
        return Document(_Plain().convert(tree), lambda: tree)
    except YamlProblem:
        raise
    except DuplicateKeyError as error:
        key = _DUPLICATE.search(str(error.problem))
        line = _line_of(error)
        raise YamlProblem("duplicate key", line, key[1] if key else "yaml") from error
    except MarkedYAMLError as error:
        why = _QUOTED.sub("…", str(error.problem or error.context or "not YAML"))
        raise YamlProblem(why.splitlines()[0], _line_of(error)) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlProblem("control characters are not allowed", line) from error
    except RecursionError as error:
        raise YamlProblem("nested too deeply") from error
    except Exception as error:  # ruamel.yaml lets TypeError, IndexError and others out
        raise YamlProblem("not YAML, or a value does not suit its tag") from error


def _line_of(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


class _Plain:
    """Converts each object once, however many aliases it has."""

    def __init__(self) -> None:
        self._collections: dict[int, object] = {}

    def convert(self, node: object, line: int = 1) -> object:
        if isinstance(node, CommentedMap | CommentedSeq):
            return self._collection(node)
        if isinstance(node, str):
            if any("\ud800" <= character <= "\udfff" for character in node):
                raise YamlProblem("a lone surrogate is not allowed", line)
            return str(node)
        if node is None or isinstance(node, bool | ScalarBoolean):
            return None if node is None else bool(node)
        for number in (int, float):
            if isinstance(node, number):
                return number(node)
        raise YamlProblem("a date or a tag is not a value here; quote the text", line)

    def _collection(self, node: CommentedMap | CommentedSeq) -> object:
        if id(node) in self._collections:
            return self._collections[id(node)]
        lines = Document(None, lambda: node)
        if isinstance(node, CommentedSeq):
            items: list[object] = []
            self._collections[id(node)] = items  # before its items: one may be the list itself
            items += [self.convert(item, lines.line((i,))) for i, item in enumerate(node)]
            return items
        mapping: dict[str, object] = {}
        self._collections[id(node)] = mapping
        for key, value in node.items():
            line = lines.line((key,))
            name = self.convert(key, line)
            if not isinstance(name, str):
                raise YamlProblem("a key must be a text", line)
            mapping[name] = self.convert(value, line)
        return mapping
