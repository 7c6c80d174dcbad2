"""What is in force, and what has happened since the start."""

from typing import Any, Final, Literal

from pydantic import Field

from ..model.rule import Default
from ..model.settings import Settings
from ..sentence import Sentence
from ..version import VERSION
from .checks import ChecksStatus
from .exit_views import ExitsStatus
from .exits import Exits
from .in_force import PolicyInForce
from .live import Totals
from .states import CircuitsStatus
from .views import Spoken, View


class PolicyFileStatus(View):
    """The policy file; ``error`` says what is wrong with its last edit."""

    path: str = ""
    error: str = ""
    proxies: int = 0
    pools: int = 0
    rules: int = 0


class RegistryStatus(View):
    """The registry; ``error`` says why it cannot be read at the moment."""

    name: str
    revision: int
    error: str = ""
    proxies: int
    pools: int
    rules: int
    assignments: int


class DnsStatus(View):
    """The pre-flight; no ``servers`` are those of the system."""

    servers: tuple[str, ...]
    timeout_ms: int
    hosts_file: str


class RefusalCount(View):
    code: str
    reason: str
    count: int


class TotalsView(View):
    """Counts since the start. ``unmatched`` flows took the default.

    Refused flows are under ``refuse`` in ``by_use``; ``by_proxy`` has those that left.
    """

    flows: int = 0
    unmatched: int = 0
    by_use: dict[str, int] = Field(default_factory=dict)
    by_proxy: dict[str, int] = Field(default_factory=dict)
    refusals: tuple[RefusalCount, ...] = ()


class StatusView(Spoken):
    """What is in force. ``problem`` says why everything is refused; ``problems`` has the rules
    that refuse for want of what they name; ``warnings`` what is not as a person expects.
    ``proxy_listen`` is where mitmproxy listens as an HTTP proxy, each as ``host:port``."""

    state: Literal["in force", "refusing"]
    problem: str = ""
    version: str
    default: Default
    default_from: Literal["policy file", "registry", "option"]
    policy: PolicyFileStatus
    registry: RegistryStatus | None
    dns: DnsStatus
    socks5: bool
    listen: str = ""
    proxy_listen: tuple[str, ...] = ()
    totals: TotalsView
    circuits: CircuitsStatus = CircuitsStatus()
    checks: ChecksStatus = ChecksStatus()
    exits: ExitsStatus = ExitsStatus()
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


_OWN_NETWORK: Final = Sentence(
    "own_network",
    "Own network? Connections to proxies at different addresses get no answer; no proxy is blamed "
    "for it",
)


def status_of(
    in_force: PolicyInForce,
    settings: Settings | None,
    totals: Totals,
    listening: str,
    proxy_places: tuple[str, ...],
    exits: Exits,
    circuits: CircuitsStatus,
    checks: ChecksStatus,
) -> StatusView:
    """``settings`` are the options, ``None`` before there are any; ``listening`` the API's URL,
    ``proxy_places`` where clients find mitmproxy as their HTTP proxy."""
    snapshot = in_force.snapshot
    return StatusView(
        state="refusing" if in_force.problem else "in force",
        problem=in_force.problem,
        version=VERSION,
        default=snapshot.default,
        default_from=in_force.default_from,
        policy=_file(in_force),
        registry=_registry(in_force),
        dns=_dns(settings),
        socks5=in_force.socks5,
        listen=listening,
        proxy_listen=proxy_places,
        totals=_totals(totals),
        circuits=circuits,
        checks=checks,
        exits=exits.status(),
        warnings=((_OWN_NETWORK,) if circuits.own_network else ()) + exits.warnings(),
        problems=snapshot.problems,
    )


def _file(in_force: PolicyInForce) -> PolicyFileStatus:
    counts = _counts(in_force.filed, "proxies", "pools", "rules")
    path = str(in_force.file_path or "")
    return PolicyFileStatus(path=path, error=in_force.file_error, **counts)


def _registry(in_force: PolicyInForce) -> RegistryStatus | None:
    if in_force.registry is None:
        return None
    state = in_force.stored
    counts = _counts(state, "proxies", "pools", "rules", "assignments")
    about: Any = {"name": in_force.registry.name, "revision": state.revision}
    return RegistryStatus(**about, error=in_force.registry_error, **counts)


def _counts(entries: object, *kinds: str) -> dict[str, Any]:
    return {kind: len(getattr(entries, kind)) for kind in kinds}


def _dns(settings: Settings | None) -> DnsStatus:
    if settings is None:
        return DnsStatus(servers=(), timeout_ms=0, hosts_file="")
    return DnsStatus(
        servers=settings.dns,
        timeout_ms=round(settings.dns_timeout * 1000),
        hosts_file=str(settings.hosts_file or ""),
    )


def _totals(totals: Totals) -> TotalsView:
    return TotalsView(
        flows=totals.flows,
        unmatched=totals.unmatched,
        by_use=dict(totals.by_use),
        by_proxy=dict(totals.by_proxy),
        refusals=tuple(
            RefusalCount(code=code, reason=reason, count=count)
            for (code, reason), count in totals.refusals.most_common()
        ),
    )
