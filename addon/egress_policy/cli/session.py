"""Registry and policy file as one command needs them; a mitmproxy that runs sees what changes."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.settings import CONFDIR, parse_settings

if TYPE_CHECKING:
    from ..management.management import Management


def confdir_of(options: argparse.Namespace) -> Path:
    confdir: Path = options.confdir
    return confdir.expanduser()


def run[T](options: argparse.Namespace, work: "Callable[[Management], Awaitable[T]]") -> T:
    """Open what the options name, do the work, and let go of it. Raises ``EgressError``."""
    # Only here: a command that needs neither mitmproxy nor registry answers at once.
    from ..management.management import Management
    from ..proxy.filters import compile_filter, request_for

    async def session() -> T:
        management = Management(compile_filter, request_for)
        values = {
            "egress_registry": options.registry,
            "egress_policy": str(options.policy or ""),
            "egress_default": options.default,
            "egress_listen": "",
            "egress_dns": tuple(options.dns),
        }
        confdir = confdir_of(options)
        try:
            settings = parse_settings(values, os.environ, confdir)
            management.configure(settings, confdir, os.environ)
            return await work(management)
        finally:
            closing = management.stop()
            if closing:
                await closing

    return asyncio.run(session())


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options that say where things are."""
    parser.add_argument(
        "--confdir",
        type=Path,
        default=Path("~/.mitmproxy"),
        metavar="DIR",
        help="mitmproxy's folder (default: %(default)s)",
    )
    parser.add_argument(
        "--registry",
        default=f"{CONFDIR}/egress.db",
        metavar="PLACE",
        help="registry: a file or a database URL; empty for none (default: %(default)s)",
    )
    parser.add_argument("--policy", type=Path, metavar="FILE", help="policy file beside it")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(default="direct", dns=())
