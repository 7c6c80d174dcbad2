"""How an egress travels in ``Server.via``, the only part of mitmproxy's reuse key an addon can set.

The host of such a ``via`` is a name that never resolves (``.invalid``, RFC 6761 section 6.4). It
differs for every egress and every edit of it, so two of them never share a connection. The host
carries the choice itself, so no table can fall out of step; a ``via`` that was read from a file is
a plain string and means nothing.
"""

import functools
import re

from mitmproxy.net.server_spec import ServerSpec

from ..model.decision import Choice, Egress


class RouteName(str):
    """The host of a ``via`` that names an egress."""

    __slots__ = ("choice",)
    choice: Choice

    def __new__(cls, choice: Choice, egress: Egress) -> "RouteName":
        name = super().__new__(cls, f"{_slug(egress.name)}~{egress.key}.egress.invalid")
        name.choice = choice
        return name


@functools.lru_cache(maxsize=1024)
def _slug(name: str) -> str:
    """What a host name may hold of an egress's name: for people who read logs."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:40]


def via_for(choice: Choice, egress: Egress, forward: bool) -> ServerSpec:
    """The reuse key of an egress. Scheme ``http`` forwards requests, ``tcp`` tunnels them."""
    port = egress.proxy.port if egress.proxy else 0
    return ("http" if forward else "tcp", (RouteName(choice, egress), port))


def choice_in(via: ServerSpec | None) -> Choice | None:
    """The choice in a ``via`` made by ``via_for``, ``None`` for any other."""
    name = via[1][0] if via else None
    return name.choice if isinstance(name, RouteName) else None


def is_forward(via: ServerSpec | None) -> bool:
    """Whether requests are forwarded to the proxy instead of tunnelled through it."""
    return via is not None and choice_in(via) is not None and via[0] == "http"
