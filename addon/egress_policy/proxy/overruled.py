"""Warns about other scripts that set ``flow.server_conn.via``, which silently has no effect.

The egress policy alone decides which proxy a flow takes. The warning names the script and says how
to write a rule instead.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode, UpstreamMode
from mitmproxy.utils import human

from ..log import get_logger
from .via import choice_in

logger = get_logger(__name__)

_SETS_VIA = re.compile(rb"\.via\b")
_OURS = "egress.py"


class OverruledVia:
    """Warns once for each set of loaded scripts."""

    def __init__(self) -> None:
        self._told: set[tuple[str, ...]] = set()

    def notice(
        self, flow: http.HTTPFlow, mode: ProxyMode, scripts: Callable[[], Sequence[str]]
    ) -> None:
        """Check a flow that is about to be decided. ``mode`` is the mode it came in by, ``scripts``
        says which are loaded."""
        server = flow.server_conn
        via = server.via
        if via is None or server.timestamp_start or choice_in(via):
            return  # a connection that has started got its ``via`` from a file
        if isinstance(mode, UpstreamMode) and via == (mode.scheme, mode.address):
            return
        loaded = tuple(scripts())
        if loaded in self._told:
            return
        self._told.add(loaded)
        who = ", ".join(_setters(loaded)) or "another addon"
        logger.warning(
            f"Egress: {who} sets flow.server_conn.via (to {human.format_address(via[1])}), which "
            "has no effect: the egress policy decides which proxy a flow takes. Write a rule "
            'instead, see "Beside other scripts" in docs/reference.md'
        )


def _setters(scripts: Sequence[str]) -> list[str]:
    """The scripts that mention a ``via``."""
    found = []
    for script in scripts:
        path = Path(script).expanduser()
        try:
            mentions = _SETS_VIA.search(path.read_bytes())
        except OSError:
            continue
        if mentions and path.name != _OURS:
            found.append(script)
    return found
