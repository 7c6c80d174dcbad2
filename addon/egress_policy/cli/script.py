"""``script``: where the script for ``mitmdump -s`` lies."""

from pathlib import Path

import click

from .command import examples
from .output import say


@click.command(epilog=examples("script"))
def script() -> int:
    """Print the path for `mitmdump -s`."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "script" / "egress.py"
    say(str(installed if installed.exists() else package.parent / "egress.py"))
    return 0
