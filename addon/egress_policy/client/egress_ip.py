"""The address that a target saw, as it says in its answer. Pure."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from ..policy.exits import parse_exit_address

_KEYS: Final = ("ip", "origin", "query", "address")
"""Under which services say it: most, httpbin, ip-api, and others."""
_LINE: Final = re.compile(r"[a-z_]+=.*")


def find_egress_ip(body: bytes) -> str | None:
    """The IP literal in a body, in its canonical form; an IPv4-mapped address is IPv4.

    A body is a literal alone, a JSON object that has one under ``ip``, ``origin``, ``query`` or
    ``address``, or lines of ``name=value`` with one under ``ip``, as of Cloudflare's
    ``/cdn-cgi/trace``. Any other body gives ``None``, and so does one that names several addresses:
    an ``origin`` of ``"a, b"`` repeats what a proxy wrote into a header.
    """
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        return None
    if text.startswith("{"):
        return _only(_in_object(text))
    if _LINE.match(text):
        return _only(_in_lines(text))
    return parse_exit_address(text)


def _only(values: Iterable[str]) -> str | None:
    """The one address that all values are. A list of addresses is none, and spoils the others."""
    found = {parse_exit_address(value.strip()) for value in values if _holds_address(value)}
    return found.pop() if len(found) == 1 else None


def _holds_address(value: str) -> bool:
    return any(parse_exit_address(part.strip()) for part in value.split(","))


def _in_object(text: str) -> Iterable[str]:
    try:
        value: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return [said for key in _KEYS if isinstance(said := value.get(key), str)]


def _in_lines(text: str) -> Iterable[str]:
    lines = text.splitlines()
    if not all(map(_LINE.fullmatch, lines)):
        return ()
    return [line.removeprefix("ip=") for line in lines if line.startswith("ip=")]
