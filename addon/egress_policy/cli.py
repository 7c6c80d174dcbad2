"""The command ``egress-policy``: what can be asked without mitmproxy running.

Messages are written for people. Exit status 0 is yes, 1 is no (a bad file, a refusal), 2 is a
command that was not understood.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from .errors import InvalidEntry
from .model.decision import Target
from .model.host import canonical_ip, normalize_target_host
from .model.settings import parse_settings
from .policy.engine import decide, explain
from .policy.snapshot import Snapshot, build_snapshot
from .proxy.filters import compile_filter
from .store.policy_file import load_policy
from .version import VERSION

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except InvalidEntry as error:
        print(error, file=sys.stderr)  # noqa: T201 (this is what the command is for)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="egress-policy",
        description="By which egress does a flow leave mitmproxy? Check policies and ask them.",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    script = commands.add_parser("script", help="print the path for `mitmdump -s`")
    script.set_defaults(run=_script)

    check = commands.add_parser("check", help="check a policy file")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check)

    ask = commands.add_parser("explain", help="say which rule decides for a URL; sends nothing")
    ask.add_argument("url", metavar="URL")
    ask.add_argument("--policy", type=Path, required=True, metavar="FILE")
    ask.add_argument("--client", default="127.0.0.1", metavar="IP", help="the client that asks")
    ask.set_defaults(run=_explain)
    return parser


def _script(_: argparse.Namespace) -> int:
    here = Path(__file__).resolve().parent
    installed = here / "script" / "egress.py"
    _say(str(installed if installed.exists() else here.parent / "egress.py"))
    return 0


def _check(options: argparse.Namespace) -> int:
    snapshot = _snapshot(options.file)
    counts = snapshot.counts
    _say(
        f"{options.file}: good. {counts['proxies']} proxies, {counts['pools']} pools, "
        f"{counts['rules']} rules, default {snapshot.default}"
    )
    for note in (*snapshot.warnings, *snapshot.problems):
        _say(f"  note: {note}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    snapshot = _snapshot(options.policy)
    target = _target(options.url, options.client)
    for trace in explain(snapshot, target):
        _say(f"{trace.rule:<24} {trace.verdict:<18} {trace.why}".rstrip())
    decision = decide(snapshot, target)
    if decision.refusal:
        _say(f"=> refused: {decision.refusal.code} {decision.refusal.reason}: {decision.why}")
        return 1
    if decision.outcome == "undecided":
        _say(f"=> open: {decision.why}")
        return 0
    for egress in decision.members:
        hop = f"{egress.proxy.host} port {egress.proxy.port}" if egress.proxy else target.host
        _say(f"=> {egress.name}: dials {hop}, family {egress.family}")
    return 0


def _snapshot(path: Path) -> Snapshot:
    socks5 = parse_settings({}, os.environ).socks5
    return build_snapshot(load_policy(path, compile_filter), compile_filter, socks5_enabled=socks5)


def _target(url: str, client: str) -> Target:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise InvalidEntry(f"Not a URL: {error}", "url") from error
    address = canonical_ip(client)
    if not parts.hostname or port is None or address is None:
        raise InvalidEntry("Give a URL such as https://example.com/ and a client's IP", "url")
    return Target(normalize_target_host(parts.hostname), port, address)


def _say(text: str) -> None:
    print(text)  # noqa: T201 (this is what the command is for)


if __name__ == "__main__":
    sys.exit(main())
