"""``check``: whether a policy file is good."""

import os
from pathlib import Path

import click

from ..model.words import count
from .command import examples
from .output import say, say_json


@click.command(epilog=examples("check policy.yaml"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="answer in JSON, errors too")
def check(file: Path, as_json: bool) -> int:
    """Check a policy file."""
    from ..model.settings import parse_settings
    from ..policy.snapshot import build_snapshot
    from ..policy_file.parse import PolicyFileError, load_policy
    from ..proxy.filters import compile_filter

    try:
        policy = load_policy(file, compile_filter)
    except PolicyFileError as error:
        if not as_json:
            raise
        problems = [{"line": p.line, "key": p.key, "message": p.message} for p in error.problems]
        say_json({"good": False, "problems": problems})
        return 1
    socks5 = parse_settings({}, os.environ).socks5
    snapshot = build_snapshot(policy, compile_filter, socks5_enabled=socks5)
    notes, counts = [*snapshot.warnings, *snapshot.problems], snapshot.counts
    if as_json:
        say_json({"good": True, **counts, "default": snapshot.default, "notes": notes})
        return 0
    say(
        f"{file}: good. {count(counts['proxies'], 'proxy', 'proxies')}, "
        f"{count(counts['pools'], 'pool', 'pools')}, {count(counts['rules'], 'rule', 'rules')}, "
        f"default {snapshot.default}"
    )
    for note in notes:
        say(f"  note: {note}")
    return 0
