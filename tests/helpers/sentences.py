"""The sentences that the source can say, found in it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import egress_policy

_SOURCE = Path(egress_policy.__file__).parent
_MADE_BY = {"Sentence", "_invalid", "_other_name"}
"""What makes a sentence. Helpers of modules pass a code and a template on."""


class Found(NamedTuple):
    code: str
    template: str
    params: frozenset[str]


def sentences() -> Iterator[Found]:
    """Each sentence, as often as it is written."""
    for file in sorted(_SOURCE.rglob("*.py")):
        text = file.read_text("utf-8")
        if "import Sentence" in text or ", Sentence" in text:
            yield from _of(ast.parse(text))


def _of(tree: ast.AST) -> Iterator[Found]:
    named = [
        (one.lineno, one.targets[0].id, text)
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
        if (text := _constant(one.value)) is not None
    ]

    def text_of(one: ast.expr) -> str | None:
        """A text, or that of the name that was given a text last."""
        if not isinstance(one, ast.Name):
            return _constant(one)
        before = [row for row in named if row[1] == one.id and row[0] < one.lineno]
        return max(before)[2] if before else None

    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        texts = [text for one in call.args if (text := text_of(one)) is not None]
        if call.func.id in _MADE_BY and len(texts) > 1:
            code, template = texts[-2:]
            yield Found(code, template, frozenset(one.arg or "" for one in call.keywords))


def _constant(one: ast.expr) -> str | None:
    return one.value if isinstance(one, ast.Constant) and isinstance(one.value, str) else None
