"""One name means one thing: readers and searches find one class by it."""

import ast
from collections import defaultdict
from pathlib import Path

ADDON = Path(__file__).parents[1] / "addon"


def test_no_two_public_classes_have_the_same_name() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(ADDON.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ADDON)))
    assert len(found) > 100
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}
