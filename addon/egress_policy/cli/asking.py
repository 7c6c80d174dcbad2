"""``script``, ``check``, ``explain``, ``status`` and ``token``."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidEntry
from .output import count, say, say_json, say_table
from .session import add_place, confdir_of, read

if TYPE_CHECKING:
    from .session import Asked


def add_asking(commands: Any) -> None:
    script = commands.add_parser("script", help="print the path for `mitmdump -s`")
    script.set_defaults(run=_script)

    check = commands.add_parser("check", help="check a policy file")
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--json", action="store_true", help="answer in JSON")
    check.set_defaults(run=_check)

    explain = commands.add_parser("explain", help="say which rule decides for a URL; sends nothing")
    explain.add_argument("url", metavar="URL")
    explain.add_argument("--method", default="GET")
    explain.add_argument("--client", default="127.0.0.1", metavar="IP", help="the client that asks")
    explain.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="repeatable"
    )
    explain.add_argument(
        "--all", action="store_true", help="list every rule, not only 100 around the deciding one"
    )
    add_place(explain)
    explain.add_argument(
        "--default", choices=("direct", "refuse"), help="option egress_default; asks no mitmproxy"
    )
    explain.set_defaults(run=_explain)

    status = commands.add_parser("status", help="say what is in force, and what flows took")
    add_place(status)
    status.set_defaults(run=_status)

    token = commands.add_parser("token", help="print the token of the management API")
    token.add_argument(
        "--new", action="store_true", help="make a new one; mitmproxy reads it when it starts"
    )
    token.add_argument("--file", type=Path, metavar="FILE", help="option egress_token_file")
    add_place(token)
    token.set_defaults(run=_token)


def _script(_: argparse.Namespace) -> int:
    package = Path(__file__).resolve().parents[1]
    installed = package / "script" / "egress.py"
    say(str(installed if installed.exists() else package.parent / "egress.py"))
    return 0


def _check(options: argparse.Namespace) -> int:
    from ..model.settings import parse_settings
    from ..policy.snapshot import build_snapshot
    from ..policy_file.parse import PolicyFileError, load_policy
    from ..proxy.filters import compile_filter

    try:
        policy = load_policy(options.file, compile_filter)
    except PolicyFileError as error:
        if not options.json:
            raise
        problems = [{"line": p.line, "key": p.key, "message": p.message} for p in error.problems]
        say_json({"good": False, "problems": problems})
        return 1
    socks5 = parse_settings({}, os.environ).socks5
    snapshot = build_snapshot(policy, compile_filter, socks5_enabled=socks5)
    notes = (*snapshot.warnings, *snapshot.problems)
    if options.json:
        say_json({"good": True, **snapshot.counts, "default": snapshot.default, "notes": [*notes]})
        return 0
    counts = snapshot.counts
    say(
        f"{options.file}: good. {count(counts['proxies'], 'proxy', 'proxies')}, "
        f"{count(counts['pools'], 'pool', 'pools')}, {count(counts['rules'], 'rule', 'rules')}, "
        f"default {snapshot.default}"
    )
    for note in notes:
        say(f"  note: {note}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from ..management.explain import ExplainQuery, Explanation

    headers = dict(_header(text) for text in options.header)
    try:
        query = ExplainQuery(
            url=options.url,
            method=options.method,
            client=options.client,
            headers=headers,
            all_rules=options.all,
        )
    except ValidationError as error:
        raise InvalidEntry("Give a URL, a method and a client's IP address", "url") from error

    async def work(management: "Asked") -> Explanation:
        return management.explain(query)

    found = read(options, work)
    if options.json:
        say_json(found)
        return 1 if found.outcome == "refuse" else 0
    if found.rules_before:
        say(f"... {count(found.rules_before, 'rule', 'rules')} before these did not decide")
    for trace in found.rules:
        say(f"{trace.rule:<24} {trace.verdict:<18} {trace.why}".rstrip())
    if found.rules_after:
        say(f"... {found.rules_after} more not reached; --all lists every rule")
    if found.outcome == "refuse":
        say(f"=> refused: {found.code} {found.reason}: {found.detail}")
        return 1
    if found.outcome == "undecided":
        say(f"=> open: {found.why}")
    for egress in found.egresses:
        say(f"=> {egress.name}: dials {egress.host} port {egress.port}, family {egress.family}")
    return 0


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise InvalidEntry("A header is NAME:VALUE", "header")
    return name.strip(), value.strip()


def _status(options: argparse.Namespace) -> int:
    from ..management.status import StatusView

    async def work(management: "Asked") -> StatusView:
        return management.status()

    found = read(options, work)
    if options.json:
        say_json(found)
    else:
        plain = found.model_dump(mode="json")
        shown = ((k, json.dumps(v) if isinstance(v, dict) else v) for k, v in plain.items())
        say_table(("FIELD", "VALUE"), shown)
    return 1 if found.state == "refusing" else 0


def _token(options: argparse.Namespace) -> int:
    """Print the token that the mitmproxy which runs takes, or that the next one will."""
    from ..files.token_file import make_token, read_token
    from .running import find_run

    confdir = confdir_of(options)
    run = None if options.file else find_run(confdir)
    path = options.file or (run.token_file if run else confdir / "egress-token")
    if options.new:
        make_token(path)
    token = read_token(path)
    if options.json:
        say_json({"token": token, "file": str(path)})
    else:
        say(token)
    return 0
