"""The packages that the egress policy needs, and the sentence about a missing one.

Needs only the standard library, because it runs when nothing else of the package can be imported.
"""

import importlib
import re
import shlex
import sys
from collections.abc import Iterable
from typing import Final

REQUIRED: Final = {
    "mitmproxy": "mitmproxy>=12.2,<14",
    "dns": "dnspython>=2.7",
    "pydantic": "pydantic>=2.11,<3",
    "sqlalchemy": "SQLAlchemy>=2.0.31,<3",
    "alembic": "alembic>=1.13,<2",
    "yaml": "PyYAML>=6.0.2,<7",
    "click": "click>=8.2.1,<9",
}
"""Requirements by module, as in pyproject.toml."""


def absent() -> dict[str, str]:
    """The modules in ``REQUIRED`` that Python cannot import."""
    return {module: spec for module, spec in REQUIRED.items() if not _importable(module)}


def what_to_install(error: ImportError) -> str:
    """The sentence for ``error``; empty if it is about no module in ``REQUIRED``."""
    module = (error.name or "").partition(".")[0]
    if module not in REQUIRED:
        return ""
    # One that is there fails all the same: it is too old or broken.
    specs = {module: REQUIRED[module], **absent()}
    name = re.split("[<>=]", REQUIRED[module], maxsplit=1)[0]
    return f"{name} cannot be used ({error}). Install it: {pip_install(specs.values())}"


def pip_install(specs: Iterable[str]) -> str:
    """The command that installs ``specs`` for the running Python."""
    return f"{sys.executable} -m pip install {' '.join(map(shlex.quote, specs))}"


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
