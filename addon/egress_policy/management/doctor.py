"""What keeps the policy from working on this machine, and what to do about it.

Usable where packages are missing: they are imported only where they are used.
"""

import asyncio
import os
import platform
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..errors import EgressError, PolicyFileError
from ..requirements import REQUIRED, absent, pip_install

if TYPE_CHECKING:
    from ..model.rule import FilterCompiler

_OLDEST_PYTHON = (3, 12)
_KNOWN = ((12, 2), (14, 0))
"""The versions of mitmproxy that are supported: from the first to before the second."""
# Documentation addresses (RFC 5737, RFC 3849): a datagram socket asks the routing table and sends
# nothing.
_ROUTES = (("IPv4", socket.AF_INET, "192.0.2.1"), ("IPv6", socket.AF_INET6, "2001:db8::1"))
_SECRETS = ("egress-key", "egress-token", "egress.db")
_ECHO_KEY = "egress-echo-key"


class Finding(NamedTuple):
    """``advice`` is empty where there is nothing to do."""

    level: Literal["ok", "warn", "fail"]
    what: str
    advice: str = ""


def examine(
    name: str,
    find_folder: Callable[[], Path],
    registry: str,
    policy: Path | None,
    compile_filter: "FilterCompiler",
) -> Iterator[Finding]:
    """``name`` is a host name to look up, ``find_folder`` gives mitmproxy's folder or raises
    ``EgressError``, ``registry`` is a value of ``egress_registry``, ``policy`` a policy file."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _mitmproxy, _packages, lambda: _resolver(name), _routes,
        lambda: _folder(find_folder, registry), lambda: _policy(policy, compile_filter),
    )  # fmt: skip
    for check in checks:
        try:
            yield from check()
        except ImportError as error:  # of a package that is named already
            if (error.name or "").partition(".")[0] not in REQUIRED:
                raise


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield Finding("fail", f"Python {version}", "Python 3.12 or later is needed")
    else:
        yield Finding("ok", f"Python {version}")


def _mitmproxy() -> Iterator[Finding]:
    try:
        version = metadata.version("mitmproxy")
    except metadata.PackageNotFoundError:
        yield Finding("fail", "mitmproxy is not installed", "pip install 'mitmproxy>=12.2,<14'")
        return
    number = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if _KNOWN[0] <= number < _KNOWN[1]:
        yield Finding("ok", f"mitmproxy {version}")
    else:
        yield Finding("fail", f"mitmproxy {version}", "Versions from 12.2 and below 14 are known")


def _packages() -> Iterator[Finding]:
    lacking = absent()
    lacking.pop("mitmproxy", None)  # _mitmproxy says more of it
    for module, spec in lacking.items():
        yield Finding("fail", f"{module} cannot be imported", pip_install([spec]))
    if not lacking:
        yield Finding("ok", "all packages that are needed are there")


def _resolver(name: str) -> Iterator[Finding]:
    from ..dns.resolver import DnsResolver

    async def ask() -> str:
        resolver = DnsResolver()
        try:
            answer = await resolver.resolve(name, 4)
            return answer.cause if answer.kind in ("failure", "timeout") else ""
        finally:
            await resolver.aclose()

    problem = asyncio.run(ask())
    if problem:
        advice = "Pinned hostnames will be refused; set egress_dns to nameservers that answer"
        yield Finding("warn", f"DNS does not answer for {name}: {problem}", advice)
    else:
        yield Finding("ok", f"DNS answers for {name}")


def _routes() -> Iterator[Finding]:
    for label, family, address in _ROUTES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 53))
        except OSError as error:
            advice = f"What is pinned to {label} cannot leave this machine"
            yield Finding("warn", f"no {label} route: {error.strerror}", advice)
        else:
            yield Finding("ok", f"{label} route")


def _folder(find_folder: Callable[[], Path], registry: str) -> Iterator[Finding]:
    try:
        folder = find_folder()
    except EgressError as error:
        yield Finding("fail", str(error), "Nothing in it was checked")
        return
    for name in _SECRETS:
        yield from _file(folder / name)
    if os.path.lexists(folder / _ECHO_KEY):
        yield from _file(folder / _ECHO_KEY)
    yield from _registry(registry, folder)


def _file(path: Path) -> Iterator[Finding]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        yield Finding("ok", f"{path} is not there yet; it is made on the first start")
        return
    except OSError as error:
        yield Finding("fail", f"{path}: {error.strerror}", "Make its folder readable")
        return
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        yield Finding("fail", f"{path} is a symbolic link", "Put the file itself there")
    elif status.st_uid != os.geteuid():
        yield Finding("fail", f"{path} belongs to somebody else", "chown it")
    elif mode & 0o077:
        yield Finding("fail", f"{path} has mode {mode:04o}", f"chmod 600 {path}")
    else:
        yield Finding("ok", f"{path} has mode {mode:04o}")


def _registry(option: str, folder: Path) -> Iterator[Finding]:
    from ..registry.registry import Registry
    from ..registry.secrets import load_key
    from .registry_source import find_registry

    try:
        place = find_registry(option, folder, os.environ)
        if not place.exists:
            yield Finding(
                "ok", "there is no registry yet" if option else "no registry is asked for"
            )
            return
        registry = Registry.open(place.location, load_key(folder, os.environ))
        try:
            state = registry.load()
        finally:
            registry.close()
    except EgressError as error:
        yield Finding("fail", f"the registry cannot be opened: {error}", "Fix that first")
        return
    entries = (*state.proxies, *state.pools, *state.rules, *state.assignments)
    unusable = [one for one in entries if one.problem]
    yield Finding("ok", f"registry {registry.name}: {len(entries)} entries")
    for one in unusable:
        yield Finding("warn", f"entry {one.id} refuses: {one.problem}", "Edit or delete it")


def _policy(path: Path | None, compile_filter: "FilterCompiler") -> Iterator[Finding]:
    if path is None:
        return
    from ..policy_file.parse import load_policy

    try:
        load_policy(path, compile_filter)
    except PolicyFileError as error:
        yield Finding(
            "fail", f"policy file: {error}", "Until then mitmproxy does not start with it"
        )
    else:
        yield Finding("ok", f"policy file {path}")
