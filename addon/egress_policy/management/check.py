"""Whether a policy file is good, while it is not in force."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..model.rule import Default, FilterCompiler
from ..model.settings import parse_settings
from ..policy.engine import DEFAULT_RULE
from ..policy.snapshot import build_snapshot
from ..policy_file.parse import load_policy
from .rule_facts import lost_rules, why_never
from .views import View


class CheckedPolicy(View):
    """What a good policy file holds. ``notes`` are its warnings: the rules that refuse because they
    name something unusable, and those that never decide."""

    good: Literal[True] = True
    proxies: int
    pools: int
    rules: int
    default: Default
    notes: tuple[str, ...]


def check_policy(
    path: Path, compile_filter: FilterCompiler, environ: Mapping[str, str]
) -> CheckedPolicy:
    """Read a policy file and resolve what it names. Raises ``PolicyFileError``."""
    policy = load_policy(path, compile_filter, environ)
    socks5 = parse_settings({}, environ).socks5
    snapshot = build_snapshot(policy, compile_filter, socks5_enabled=socks5)
    never = (
        f"rule {label} never decides: {why_never(before)}"
        for label, before in lost_rules(snapshot).items()
        if label != DEFAULT_RULE
    )
    notes = (*snapshot.problems, *never)
    return CheckedPolicy(**snapshot.counts, default=snapshot.default, notes=notes)
