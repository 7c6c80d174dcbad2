"""The README keeps up: every option, code, reason, key, command and verb stands in it."""

import argparse
import re
from pathlib import Path

import pytest

from egress_policy.api.resources import ROUTES
from egress_policy.api.resources.flows import LIVE
from egress_policy.api.routes import PREFIX
from egress_policy.cli.parser import parser
from egress_policy.errors import Code, Reason
from egress_policy.model.settings import OPTIONS
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.policy_file.parse import parse_policy
from egress_policy.proxy.addons.console import EgressConsole
from egress_policy.proxy.filters import compile_filter

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
METADATA = ["use", "proxy", "pool", "rule", "family", "address", "peer_family", "dns_ms"]
METADATA += ["dns_ttl", "code", "reason", "reused"]
COMMANDS = [
    value.command_name for value in vars(EgressConsole).values() if hasattr(value, "command_name")
]


def verbs(parser: argparse.ArgumentParser, said: str = "egress-policy") -> list[str]:
    """``egress-policy proxies list`` and so on."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        return [said]
    choices = groups[0].choices.items()
    return [verb for name, child in choices for verb in verbs(child, f"{said} {name}")]


@pytest.mark.parametrize(
    "word",
    [
        *[option.name for option in OPTIONS],
        *Code,
        *Reason,
        *[f"egress.{key}" for key in METADATA],
        *COMMANDS,
        *verbs(parser()),
    ],
)
def test_it_names(word: str) -> None:
    assert f"`{word}" in README or f'"$({word}' in README


@pytest.mark.parametrize("route", [*(route.path for route in ROUTES), LIVE])
def test_it_names_the_route(route: str) -> None:
    assert f"`{route.removeprefix(PREFIX)}`" in README


def test_commands_were_found() -> None:
    assert {"egress.reload", "egress.status", "egress.proxy.list"} <= set(COMMANDS)


@pytest.mark.parametrize("target", re.findall(r"`make (\w+)`", README))
def test_its_make_targets_exist(target: str) -> None:
    assert f"\n{target}: " in (ROOT / "Makefile").read_text("utf-8")


def test_its_policy_file_loads() -> None:
    (text,) = re.findall(r"```yaml\n(version: 1.*?)```", README, re.DOTALL)
    environ = {"V6_EGRESS_PASSWORD": "secret"}
    policy = parse_policy(text, "README.md", environ, lambda name: name, compile_filter)
    snapshot = build_snapshot(policy, compile_filter)
    assert not snapshot.warnings
    assert not snapshot.problems
    assert snapshot.needs_request
