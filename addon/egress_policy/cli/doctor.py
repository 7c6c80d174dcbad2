"""``doctor``: what on this machine would keep the policy from working, and what to do about it."""

from typing import Final

import click

from ..management.doctor import examine
from .colour import Painted, Style
from .command import examples
from .filters import compile_filter
from .output import say, say_json
from .session import Session, with_session

_STYLES: Final[dict[str, Style]] = {"ok": "good", "warn": "warn", "fail": "bad"}


@click.command(epilog=examples("doctor", "doctor --policy policy.yaml"))
@click.option("--name", default="example.com", show_default=True, help="a host name to look up")
@with_session
def doctor(session: Session, name: str) -> int:
    """Look for what would keep the policy from working."""
    folder = lambda: session.folder  # noqa: E731
    findings = list(examine(name, folder, session.registry, session.policy, compile_filter))
    if session.json:
        say_json({"findings": [one._asdict() for one in findings]})
    else:
        for one in findings:
            advice = f"\n      {one.advice}" if one.advice else ""
            say(Painted(f"{one.level:<5}", _STYLES.get(one.level)), f" {one.what}{advice}")
    return 1 if any(one.level == "fail" for one in findings) else 0
