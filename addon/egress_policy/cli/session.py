"""Whom a command asks: a mitmproxy that runs on the folder, or registry and policy file alone.

Reading makes nothing. Writing goes into the registry, where a mitmproxy that runs sees it.
"""

import argparse
import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidEntry
from ..model.settings import CONFDIR, parse_settings
from .output import warn

if TYPE_CHECKING:
    from ..management.management import Management
    from .running import Running

    type Asked = Management | Running

_REGISTRY = f"{CONFDIR}/egress.db"
_DEFAULT_CONFDIR = Path("~/.mitmproxy")


def confdir_of(options: argparse.Namespace) -> Path:
    """The folder, which may be missing only where it is the one that nobody has to state.

    Raises ``InvalidEntry`` for any other that is not there: it is mistyped.
    """
    stated: Path = options.confdir
    confdir = stated.expanduser()
    if not confdir.is_dir() and confdir != _DEFAULT_CONFDIR.expanduser():
        raise InvalidEntry(
            f"--confdir: {confdir} is not a folder. Name that of a mitmproxy; "
            f"`mitmdump --set confdir={confdir}` makes it when it starts",
            "confdir",
        )
    return confdir


def write[T](options: argparse.Namespace, work: "Callable[[Management], Awaitable[T]]") -> T:
    """Open the registry, which is made where there is none, and do the work. Raises
    ``EgressError``."""
    return _alone(options, options.registry, os.environ, work)


def read[T](options: argparse.Namespace, work: "Callable[[Asked], Awaitable[T]]") -> T:
    """Ask the mitmproxy that runs, otherwise what lies there, and say on stderr which it was.

    Options that say what to ask about are not asked of a mitmproxy, which has its own. Raises
    ``EgressError``.
    """
    from ..files.run_file import is_run_file_there
    from .running import find_running

    confdir = confdir_of(options)
    if _says_what(options):
        about = "asked without mitmproxy"
    elif running := find_running(confdir):
        warn(running.about)
        return asyncio.run(_awaited(work, running))
    else:
        about = "no mitmproxy answers" if is_run_file_there(confdir) else "no mitmproxy is running"
    registry = _registry_to_read(options, about)
    return _alone(options, registry, os.environ, work)


def try_out[T](options: argparse.Namespace, work: "Callable[[Management], Awaitable[T]]") -> T:
    """Do work that keeps nothing: where there is no registry, on one that nobody keeps."""
    if found := find_registry(options):
        return _alone(options, found, os.environ, work)
    environ = {**os.environ, "EGRESS_KEY": secrets.token_urlsafe()}
    return _alone(options, ":memory:", environ, work)


def find_registry(options: argparse.Namespace) -> str:
    """The place of the registry that the options name; empty if it is not made yet.

    Raises ``EgressError`` for one that cannot be opened without a key that is lacking.
    """
    from ..registry.registry import Registry
    from ..registry.secrets import KEY_FILE, KEY_VARIABLE, has_key

    confdir = confdir_of(options)
    place = _place(options)
    if not place or not (place == ":memory:" or Registry.exists(place)):
        return ""
    if place != ":memory:" and not has_key(confdir, os.environ):
        raise InvalidEntry(
            f"The key of the registry is missing: {confdir / KEY_FILE} does not exist. Put it "
            f"there, or give it in {KEY_VARIABLE}",
            "egress-key",
        )
    return place


def _place(options: argparse.Namespace) -> str:
    values = {"egress_registry": options.registry}
    return parse_settings(values, os.environ, confdir_of(options)).registry


def _registry_to_read(options: argparse.Namespace, about: str) -> str:
    """The registry to open for reading, after a word about it; empty for none."""
    from ..registry.engines import describe_location, parse_location

    found, place = find_registry(options), _place(options)
    policy = f"policy file {options.policy}" if options.policy else ""
    if found:
        name = describe_location(parse_location(found))
        warn(f"{about}: {f'{policy}, registry {name}' if policy else f'registry alone ({name})'}")
        return found
    if not place:
        warn(f"{about}: {policy or 'no policy file and no registry'}")
        return ""
    missing = f"there is no registry {describe_location(parse_location(place))} yet"
    makes = (
        "it is made when mitmproxy starts, or by a command that writes (`proxies add`, `import`)"
    )
    if options.registry != _REGISTRY or not (policy or confdir_of(options).is_dir()):
        raise InvalidEntry(f"{missing[0].upper()}{missing[1:]}: {makes}", "registry")
    warn(f"{about}: {f'{policy} alone, {missing}' if policy else f'{missing}; {makes}'}")
    return ""


def _says_what(options: argparse.Namespace) -> bool:
    registry = options.registry != _REGISTRY
    return bool(registry or options.policy or options.default or options.dns)


def _alone[T](
    options: argparse.Namespace,
    registry: str,
    environ: Mapping[str, str],
    work: "Callable[[Management], Awaitable[T]]",
) -> T:
    """Open registry and policy file, do the work, and let go of them."""
    # Only here: a command that needs neither mitmproxy nor registry answers at once.
    from ..management.management import Management
    from ..proxy.filters import compile_filter, request_for

    async def session() -> T:
        management = Management(compile_filter, request_for)
        values = {
            "egress_registry": registry,
            "egress_policy": str(options.policy or ""),
            "egress_default": options.default or "direct",
            "egress_listen": "",
            "egress_dns": tuple(options.dns),
        }
        confdir = confdir_of(options)
        try:
            settings = parse_settings(values, environ, confdir)
            management.configure(settings, confdir, environ)
            return await work(management)
        finally:
            closing = management.stop()
            if closing:
                await closing

    return asyncio.run(session())


async def _awaited[T](work: "Callable[[Asked], Awaitable[T]]", running: "Running") -> T:
    return await work(running)


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options that say where things are."""
    parser.add_argument(
        "--confdir",
        type=Path,
        default=_DEFAULT_CONFDIR,
        metavar="DIR",
        help="mitmproxy's folder (default: %(default)s)",
    )
    parser.add_argument(
        "--registry",
        default=_REGISTRY,
        metavar="PLACE",
        help="registry: a file or a database URL; empty for none (default: %(default)s)",
    )
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="policy file beside it; asks no mitmproxy"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(default=None, dns=())
