"""``check``: whether a policy file is good."""

import os
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import PolicyFileError
from ..model.words import count
from .command import examples
from .filters import compile_filter
from .output import say, say_json


@click.command(epilog=examples("check policy.yaml"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="answer in JSON, errors too")
def check(file: Path, as_json: bool) -> int:
    """Check a policy file."""
    from ..management.check import check_policy

    try:
        found = check_policy(file, compile_filter, os.environ)
    except PolicyFileError as error:
        if not as_json:
            raise
        say_json({"good": False, "problems": [asdict(problem) for problem in error.problems]})
        return 1
    if as_json:
        say_json(found)
        return 0
    say(
        f"{file}: good. {count(found.proxies, 'proxy', 'proxies')}, "
        f"{count(found.pools, 'pool', 'pools')}, {count(found.rules, 'rule', 'rules')}, "
        f"default {found.default}"
    )
    for note in found.notes:
        say(f"  note: {note}")
    return 0
