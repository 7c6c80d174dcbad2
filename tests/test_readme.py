"""The docs keep up with the code: docs/reference.md lists everything that a user can name, and the
README shows real output."""

import re
from pathlib import Path

import pytest

from egress_policy.api.resources import ROUTES
from egress_policy.api.resources.flows import LIVE
from egress_policy.api.routes import PREFIX
from egress_policy.cli.root import root
from egress_policy.errors import Code, Reason
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy, Rule
from egress_policy.model.settings import OPTIONS
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.policy_file.parse import parse_policy
from egress_policy.proxy.addons.console import EgressConsole
from egress_policy.proxy.filters import compile_filter
from egress_policy.proxy.record import FlowRecord
from tests.helpers.commands import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/*.md")]
METADATA = FlowRecord._fields
COMMANDS = [
    value.command_name for value in vars(EgressConsole).values() if hasattr(value, "command_name")
]
KEYS = {key for model in (Proxy, Pool, Rule, Policy) for key in model.model_fields}
KEYS |= {"version", "url", "password_env", "password_file"}


def anchors(page: Path) -> set[str]:
    """The fragments that a link may name: the headings, as a hosting platform spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "word",
    [
        *[option.name for option in OPTIONS],
        *Code,
        *Reason,
        *[f"egress.{key}" for key in METADATA],
        *COMMANDS,
        *sorted(KEYS),
        *("egress-policy " + " ".join(words) for words, _ in commands(root)),
    ],
)
def test_the_reference_names(word: str) -> None:
    assert f"`{word}`" in REFERENCE


@pytest.mark.parametrize("route", [*ROUTES, LIVE])
def test_the_reference_names_the_route(route: str) -> None:
    assert f"`{route.removeprefix(PREFIX)}`" in REFERENCE


def test_commands_were_found() -> None:
    assert {"egress.reload", "egress.status", "egress.proxy.list"} <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_docs_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        place, _, anchor = link.partition("#")
        if place.startswith("http"):
            continue
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([a-z0-9]+)", page.read_text("utf-8")):
        assert f"\n{target}: " in makefile, target


def test_the_files_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`([\w./]+(?:\.py|\.js|\.toml|/))`", page))
    assert len(named) > 30
    roots = (ROOT, ROOT / "addon" / "egress_policy", ROOT / "addon" / "egress_policy" / "api")
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


def test_the_policy_file_of_the_readme_loads() -> None:
    (text,) = re.findall(r"```yaml\n(version: 1.*?)```", README, re.DOTALL)
    environ = {"V6_EGRESS_PASSWORD": "secret"}
    policy = parse_policy(text, "README.md", environ, lambda name: name, compile_filter)
    snapshot = build_snapshot(policy, compile_filter)
    assert not snapshot.problems
    assert snapshot.needs_request
