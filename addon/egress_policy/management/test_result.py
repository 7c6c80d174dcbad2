"""How a proxy fared when it was tested."""

from typing import Literal

from ..model.family import ProxyFamily
from .views import Spoken


class TestResult(Spoken):
    """How a proxy fared when it was tested at ``at``, through its pinned hop.

    Times are in milliseconds, ``None`` for what was not reached. ``egress_ip`` is the address that
    the target saw, if it says so. ``code`` and ``reason`` are those of a refusal.
    """

    __test__ = False  # not a test case

    ok: bool
    at: str
    proxy: str
    family: ProxyFamily
    address: str | None = None
    peer_family: Literal["ipv4", "ipv6"] | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    handshake_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None
    status: int | None = None
    egress_ip: str | None = None
    code: str = ""
    reason: str = ""
    detail: str = ""
