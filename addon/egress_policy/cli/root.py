"""The tree of commands, and the one place where errors become messages."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from ..errors import EgressError
from ..version import VERSION
from .colour import want
from .command import COMPLETE, PROGRAM, Group, did_you_mean, examples
from .output import is_json_asked, problem_of, say_problem, warn

_INTERRUPTED: Final = 130
_ENOUGH: Final = 141
_MODULES: Final = {
    "proxies": "proxies", "pools": "pools", "rules": "rules", "assign": "assignments",
    "settings": "settings", "import": "import_", "export": "export", "test": "test",
    "check": "check", "explain": "explain", "status": "status", "token": "token",
    "subscriptions": "subscriptions", "doctor": "doctor", "exits": "exits", "events": "events",
    "flows": "flows", "dashboard": "dashboard", "echo": "echo", "script": "script",
    "completion": "completion",
}  # fmt: skip


@click.group(
    PROGRAM,
    cls=Group,
    lazy=_MODULES,
    epilog=examples(
        "proxies add socks5://192.0.2.1:1080#home-1", "proxies list", "proxies edit --help"
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, message="%(version)s")
def root() -> None:
    """Manage the registry, check policies, and ask them which egress a flow takes. Where a
    mitmproxy runs on the same confdir, commands ask and change that mitmproxy.

    On a terminal, tables are cut to its width with …; in a pipe or a file, and with --json,
    everything is written out, without colours. Exit status: 0 yes, 1 no, 2 not understood.
    """


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    as_json = is_json_asked(words)
    want(None)
    if asked := os.environ.get(COMPLETE):
        from .completion import complete

        return complete(root, asked)
    try:
        status: int = root.main([*words], PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        _say_misuse(error, as_json=as_json)
        return 2
    except EgressError as error:
        say_problem(problem_of(error), as_json=as_json)
        return 1
    except BrokenPipeError:  # whoever read the answer has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _ENOUGH
    except (KeyboardInterrupt, click.Abort):  # Abort: also where a prompt gets no answer
        warn("egress-policy: interrupted")
        return _INTERRUPTED
    return status


def _say_misuse(error: click.ClickException, *, as_json: bool) -> None:
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    detail = error.format_message()
    if isinstance(error, click.NoSuchOption) and context is not None:
        known = [name for one in context.command.get_params(context) for name in one.opts]
        meant = did_you_mean(error.option_name, known)
        group = context.command if isinstance(context.command, click.Group) else None
        if not meant and group and not group.invoke_without_command:
            meant = f"Options come after the command, as in `{PROGRAM} status --json`"
        detail = f"No such option {error.option_name!r}. {meant}".rstrip()
    problem: dict[str, Any] = {"code": "USAGE", "detail": detail}
    if parameter is not None and parameter.name:
        problem["errors"] = [{"field": parameter.name, "message": detail}]
    if context is not None and not as_json:
        warn(context.get_usage())
    say_problem(problem, as_json=as_json)
    if context is not None and not as_json:
        warn(f"  {context.command_path} --help says more")
