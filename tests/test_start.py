"""What a start loads: neither what others use later, nor what is not configured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from egress_policy.registry.registry import Registry
from egress_policy.registry.secrets import load_key

PROGRAM = """
import asyncio, json, sys
from mitmproxy.options import Options
from mitmproxy.tools.dump import DumpMaster
import egress_policy

class Report:
    def running(self):
        print(json.dumps(sorted(sys.modules)))
        master.shutdown()

async def start():
    global master
    confdir, settings = sys.argv[1], json.loads(sys.argv[2])
    options = Options(confdir=confdir, listen_host="127.0.0.1", listen_port=0)
    master = DumpMaster(options, with_termlog=False, with_dumper=False)
    master.addons.add(*egress_policy.default_addons())
    options.update(**settings)
    master.addons.add(Report())
    await master.run()

asyncio.run(start())
"""
REGISTRY_ALONE = ("sqlalchemy", "sqlite3", "egress_policy.registry.registry")
API_ALONE = ("egress_policy.api", "egress_policy.api.server")
VIEWS = (
    *("assignments", "bulk", "members", "overview", "pools"),
    *("rule_facts", "rule_order", "rules", "settings", "status"),
)
MANAGEMENT_LATER = tuple(f"egress_policy.management.{name}" for name in VIEWS)
NEVER = (
    *("alembic", "psycopg", "sqlalchemy.dialects.postgresql", "sqlalchemy.orm"),
    *("egress_policy.cli", "tornado", "statistics"),
    *("egress_policy.api.served", "egress_policy.api.resources", "egress_policy.api.openapi"),
    *MANAGEMENT_LATER,
)


def loaded(folder: Path, **settings: object) -> set[str]:
    """The modules of a mitmproxy that has just started with the addon."""
    command = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(settings)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ran.stdout)
    return set(found)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("bare")
    return loaded(folder, egress_registry="", egress_listen="")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """With a registry as an earlier run has left it: Alembic makes and upgrades tables."""
    folder = tmp_path_factory.mktemp("full")
    Registry.open(str(folder / "egress.db"), load_key(folder, {})).close()
    return loaded(folder, egress_listen="127.0.0.1:0")


@pytest.mark.parametrize("module", [*REGISTRY_ALONE, *API_ALONE, *NEVER])
def test_what_is_off_is_not_loaded(bare: set[str], module: str) -> None:
    assert "egress_policy.proxy.addons" in bare
    assert module not in bare


def test_registry_and_api_load_what_they_are_made_of(full: set[str]) -> None:
    assert {*REGISTRY_ALONE, *API_ALONE} <= full


@pytest.mark.parametrize("module", NEVER)
def test_what_is_used_later_is_not_loaded(full: set[str], module: str) -> None:
    assert module not in full


def test_the_first_request_loads_all_that_the_api_needs() -> None:
    """Where there are no free descriptors, only this load has some set aside."""
    program = "import json, sys, egress_policy.api.served; print(json.dumps([*sys.modules]))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(MANAGEMENT_LATER) <= set(json.loads(ran.stdout))
