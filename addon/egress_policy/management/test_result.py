"""How a proxy fared when it was tested."""

from typing import Literal

from ..model.decision import Fault
from ..model.family import ProxyFamily
from .views import Spoken, View


class TestResult(Spoken):
    """How a proxy fared when it was tested at ``at``, through its pinned hop.

    Times are in milliseconds, ``None`` for what was not reached. ``egress_ip`` is the address that
    the target saw, if it says so. ``code`` and ``reason`` are those of a refusal. ``target`` is the
    host that was asked through the proxy last, and ``fault`` says whose the failure seems to be:
    with ``target`` or ``undecided`` the target may be to blame.
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
    target: str = ""
    fault: Fault = ""
    code: str = ""
    reason: str = ""
    detail: str = ""


class TestedView(View):
    """One of many tests: the id or name that was asked for, and how the proxy fared."""

    __test__ = False  # not a test case

    id: str
    result: TestResult
