"""The sentences that the source can say, found in it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import egress_policy

_SOURCE = Path(egress_policy.__file__).parent
_MADE_BY = {"Sentence": 0, "_invalid": 0, "_other_name": 0}
"""What makes a sentence, and helpers of modules that pass a code and a template on."""


def sentences() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Each code with its template and the names of its parameters, as often as it is written."""
    for file in sorted(_SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        texts = _texts(tree)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and _name(call.func) in _MADE_BY:
                found = [texts.get(ast.dump(one)) or _constant(one) for one in call.args]
                given = [one for one in found if one is not None][-2:]
                if len(given) == 2:
                    yield given[0], given[1], frozenset(one.arg or "" for one in call.keywords)


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else ""


def _constant(one: ast.expr) -> str | None:
    return one.value if isinstance(one, ast.Constant) and isinstance(one.value, str) else None


def _texts(tree: ast.AST) -> dict[str, str]:
    """What names stand for that are given a text once: a template too long for its line."""
    found: dict[str, str] = {}
    for one in ast.walk(tree):
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
            text = _constant(one.value)
            if text is not None:
                found[ast.dump(ast.Name(one.targets[0].id, ast.Load()))] = text
    return found
