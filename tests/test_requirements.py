"""Every face names a missing package and how to install it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import egress_policy
from egress_policy.cli import main
from egress_policy.cli.root import root
from egress_policy.management.registry_source import RegistrySource
from egress_policy.requirements import REQUIRED, absent, what_to_install
from tests.helpers.clients import http_get
from tests.helpers.commands import commands
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
RUN_ALL = """
import contextlib, io, json, sys
missing, *commands = json.loads(sys.stdin.read())
sys.modules[missing] = None
from egress_policy.cli import main
for command in commands:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(command)
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""
OPEN_THE_REGISTRY = {"proxies", "pools", "rules", "assign", "settings", "test", "export", "explain"}
NEED_NOTHING = {"script", "completion"}
NO_CONFDIR = {*NEED_NOTHING, "check"}


def everything(place: list[str]) -> list[list[str]]:
    """Every command, with values for its arguments."""
    return [
        [*words, *given(command), *(place if words[0] not in NO_CONFDIR else [])]
        for words, command in commands(root)
        if words[0] != "echo"  # it serves until it is interrupted
    ]


def given(command: click.Command) -> list[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    values = [
        one.type.choices[0] if isinstance(one.type, click.Choice) else "http://192.0.2.1:1080"
        for one in arguments
        if one.required or one.nargs < 0
    ]
    return [*values, *(["--last"] if command.name == "move" else [])]


def test_requirements_are_those_of_the_distribution() -> None:
    assert [*REQUIRED.values()] == PYPROJECT["project"]["dependencies"]


def test_nothing_is_missing_here() -> None:
    assert absent() == {}


@pytest.mark.parametrize("module", ["sqlalchemy", "alembic", "dns", "pydantic", "yaml"])
def test_every_command_says_what_to_install(module: str, tmp_path: Path) -> None:
    place = ["--confdir", str(tmp_path)]
    if module != "alembic":  # needed where a registry is made, and where an old one is taken
        assert main(["proxies", "add", "one", "--host", "192.0.2.1", *place]) == 0
    asked = everything(place)
    answer = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps([module, *asked]),
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    answers = map(json.loads, answer.stdout.splitlines())
    needed = f"-m pip install '{REQUIRED[module]}'"
    for command, (status, out, err) in zip(asked, answers, strict=True):
        if command[0] in NEED_NOTHING:
            assert (command, status, err) == (command, 0, "")
        elif module == "pydantic" or _opens_the_registry(command, module):
            assert (command, status, needed in err) == (command, 1, True)
        if command[0] == "doctor":
            assert (status, needed in out + err) == (1, True)


def _opens_the_registry(command: list[str], module: str) -> bool:
    if module == "alembic":
        return command[:2] == ["proxies", "add"]
    return command[0] in OPEN_THE_REGISTRY


def test_without_click_every_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [name for name in sys.modules if name.startswith("egress_policy.cli.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "click", None)
    install = f"-m pip install '{REQUIRED['click']}'"
    assert main(["script"]) == 1
    assert install in capsys.readouterr().err
    assert main(["proxies", "list", "--json"]) == 1
    problem = json.loads(capsys.readouterr().out)
    assert problem["code"] == "PACKAGE_MISSING"
    assert install in problem["detail"]


async def test_a_mitmproxy_without_the_database_s_package_refuses_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_registry(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")

    monkeypatch.setattr(RegistrySource, "_open", open_registry)
    addons = egress_policy.default_addons()
    place = str(tmp_path / "egress.db")
    async with (
        Origin() as origin,
        Mitm(tmp_path, *addons, expect_errors=True, egress_registry=place) as mitm,
    ):
        assert (await http_get(mitm.port, origin.url())).status == 503
        (error,) = mitm.errors
        assert error.startswith("egress_registry: SQLAlchemy cannot be used (")
        assert f"-m pip install '{REQUIRED['sqlalchemy']}'" in error
        assert "leave it empty" in error
    assert origin.accepted == 0


def test_another_module_is_none_of_its_business() -> None:
    assert what_to_install(ModuleNotFoundError("no", name="somebody.else")) == ""
    assert what_to_install(ImportError("no")) == ""


def test_a_package_that_is_too_old_is_named_too() -> None:
    error = ImportError("cannot import name 'x' from 'pydantic'", name="pydantic")
    assert what_to_install(error) == (
        "pydantic cannot be used (cannot import name 'x' from 'pydantic'). "
        f"Install it: {sys.executable} -m pip install '{REQUIRED['pydantic']}'"
    )


def test_the_package_shows_all_its_names_and_no_other() -> None:
    for name in egress_policy.__all__:
        assert getattr(egress_policy, name).__name__
        assert name in dir(egress_policy)
    with pytest.raises(AttributeError, match="'egress_policy' has no attribute 'nothing'"):
        _ = egress_policy.nothing
