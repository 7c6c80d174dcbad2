"""`python -m tests.lowest`: constraints for pip that pin each direct requirement of pyproject.toml
to its lowest version. Indirect requirements are as new as allowed."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z0-9,-]+\])?>=(?P<lowest>[0-9.]+)(,.*)?")


def lowest(project: dict[str, Any]) -> Iterator[str]:
    """`name==version` for each dependency and each tool of the group dev.

    Raises `ValueError` for a requirement without a lower bound.
    """
    for text in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"]):
        found = _REQUIREMENT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} states no lowest version: write name>=version")
        yield f"{found['name']}=={found['lowest']}"


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads(PYPROJECT.read_text("utf-8")))))
