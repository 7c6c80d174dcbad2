"""Other scripts that set ``flow.server_conn.via``: it has no effect, and nobody would know why.

The egress policy alone decides by which proxy a flow leaves. Who wrote the script is told so, and
how to say the same as a rule.
"""

import re
from collections.abc import Sequence
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
    """Warns once about the scripts that are loaded, and again when others are."""

    def __init__(self) -> None:
        self._told: set[tuple[str, ...]] = set()

    def notice(self, flow: http.HTTPFlow, mode: ProxyMode, scripts: Sequence[str]) -> None:
        """Look at a flow that is decided about, and came in by this mode."""
        server = flow.server_conn
        via = server.via
        if via is None or server.timestamp_start or choice_in(via):
            return  # a connection that has started has its ``via`` from a file
        if isinstance(mode, UpstreamMode) and via == (mode.scheme, mode.address):
            return
        loaded = tuple(scripts)
        if loaded in self._told:
            return
        self._told.add(loaded)
        who = ", ".join(_setters(loaded)) or "another addon"
        logger.warning(
            f"Egress: {who} sets flow.server_conn.via (to {human.format_address(via[1])}), which "
            "has no effect: the egress policy decides by which proxy a flow leaves. A rule can say "
            'the same, see "Beside other scripts" in docs/reference.md'
        )


def _setters(scripts: Sequence[str]) -> list[str]:
    """Those of the scripts that mention a ``via``."""
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
