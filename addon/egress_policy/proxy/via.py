"""How an egress travels in ``Server.via``, the only part of mitmproxy's reuse key an addon can set.

The host of such a ``via`` is a name that never resolves (``.invalid``, RFC 6761 section 6.4) and
differs for every egress and every edit of it, so that connections are never shared between two.
It carries the choice itself, so there is no table to fall out of step; a ``via`` that was read
from a file is a plain string and therefore means nothing.
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
    """The reuse key of an egress. Scheme ``http`` forwards requests, ``tcp`` tunnels."""
    port = egress.proxy.port if egress.proxy else 0
    return ("http" if forward else "tcp", (RouteName(choice, egress), port))


def choice_in(via: ServerSpec | None) -> Choice | None:
    """The choice a ``via`` of ours carries, ``None`` for any other."""
    name = via[1][0] if via else None
    return name.choice if isinstance(name, RouteName) else None


def is_forward(via: ServerSpec | None) -> bool:
    """Whether requests are forwarded to the proxy instead of tunnelled through it."""
    return via is not None and choice_in(via) is not None and via[0] == "http"
