"""What the faces show, as pydantic models: the API answers with them, the command line prints them.

No view holds a secret: a password is shown as whether it is set.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..model.family import ProxyFamily
from ..model.proxy import PlainHttp, Proxy, ProxyStatus, ProxyType, TargetFamily
from ..model.rule import Default, Pool, Rule
from ..registry.entries import HOP_FIELDS
from ..registry.errors import Ref, Usage
from ..registry.records import Stored, StoredAssignment, StoredPool, StoredProxy, StoredRule

Source = Literal["file", "registry"]
"""Entries of the policy file are read-only."""

FILE_ID = "file:"
"""The id of an entry of the policy file: this, and its name or its number from 1."""


SORTS = ("name", "type", "host", "family", "status", "used_by", "last_test")
"""What proxies can be sorted by; with ``-`` before it the other way round."""


class View(BaseModel):
    """Frozen, and made of plain values: ``model_dump(mode="json")`` is what a face shows."""

    model_config = ConfigDict(frozen=True)


class PageInfo(View):
    """``total`` counts all that was found; the page has at most ``limit``, from ``offset`` on."""

    limit: int
    offset: int
    total: int


class Page[V: View](View):
    """A part of what was found."""

    items: tuple[V, ...]
    page: PageInfo


class Secret(View):
    """In the place of a password."""

    set: bool


class Entry(View):
    """What every entry has. Times are ISO 8601 in UTC, and ``None`` in the policy file.

    ``etag`` is another after each change. ``problem`` says why an entry of the registry cannot be
    used, as it lies in the database; empty if it can.
    """

    id: str
    source: Source
    etag: str = ""
    created_at: str | None = None
    updated_at: str | None = None
    problem: str = ""


class TestResult(View):
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


class ProxyView(Entry):
    """An upstream proxy. ``used_by`` counts the pools, rules and assignments that name it.

    Where there is a ``problem`` the fields are what the database has.
    """

    name: str
    type: str
    host: str
    port: int | None
    username: str = ""
    password: Secret
    family: str
    target_family: str | None = None
    plain_http: str = "forward"
    region: str = ""
    notes: str = ""
    status: str = "active"
    used_by: int = 0
    last_test: TestResult | None = None


class PoolView(Entry):
    """A pool. ``used_by`` counts the rules that name it."""

    name: str
    members: tuple[str, ...] = ()
    strategy: str
    sticky_by: str
    sticky_minutes: int
    used_by: int = 0


class InlineProxyView(View):
    """The proxy object of a rule."""

    name: str
    type: ProxyType
    host: str
    port: int
    username: str = ""
    password: Secret
    family: ProxyFamily
    target_family: TargetFamily | None = None
    plain_http: PlainHttp
    region: str = ""
    notes: str = ""
    status: ProxyStatus


class RuleView(Entry):
    """A rule. ``number`` counts from 1 within its source; ``label`` is what flows are marked with.

    ``refuses`` says why the rule refuses for want of what it names; empty if it does not.
    """

    number: int
    label: str
    name: str = ""
    hosts: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    filter: str = ""
    use: str | InlineProxyView
    family: ProxyFamily | None = None
    target_family: TargetFamily | None = None
    refuses: str = ""


class AssignmentView(Entry):
    """Which proxy a scope leaves by. Named as on the seed page."""

    scope: str
    scopeId: str  # noqa: N815 (the seed page's spelling)
    proxyId: str  # noqa: N815
    proxy: str = ""


class SettingsView(View):
    """What the registry says about the policy as a whole; ``None`` where it says nothing."""

    default: Default | None = None
    test_url: str | None = None


class RefView(View):
    id: str
    name: str


class UsageView(View):
    """What names an entry. ``count`` is that of all three."""

    count: int
    pools: tuple[RefView, ...] = ()
    rules: tuple[RefView, ...] = ()
    assignments: tuple[RefView, ...] = ()


class ExplainQuery(View):
    """A request to explain. ``url`` is absolute; nothing is sent.

    ``all_rules`` lists every rule, not only those around the one that decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(min_length=1, max_length=4096)
    method: str = Field(default="GET", pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}$")
    client: str = Field(default="127.0.0.1", max_length=64)
    headers: dict[str, str] = Field(default_factory=dict)
    all_rules: bool = False


class RuleTrace(View):
    """Why a rule, or the default, did or did not decide."""

    rule: str
    verdict: Literal["matched", "not matched", "needs the request", "not reached"]
    why: str = ""


class EgressView(View):
    """What would be dialled: ``host`` and ``port`` over ``family``."""

    name: str
    type: Literal["http", "https", "socks5", "direct"]
    host: str
    port: int
    family: ProxyFamily
    target_family: TargetFamily | None = None


class Explanation(View):
    """What the policy says about a request. More than one egress: one of them is picked.

    ``rules`` are at most 100 around the one that decides, unless all were asked for;
    ``rules_before`` and ``rules_after`` count those that are left out.
    """

    outcome: Literal["egress", "refuse", "undecided"]
    rule: str
    pool: str = ""
    why: str
    code: str = ""
    reason: str = ""
    detail: str = ""
    egresses: tuple[EgressView, ...] = ()
    rules: tuple[RuleTrace, ...] = ()
    rules_before: int = 0
    rules_after: int = 0


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


class StatusView(View):
    """What is in force. ``problem`` says why everything is refused; ``problems`` has the rules
    that refuse for want of what they name."""

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
    totals: TotalsView
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def view_stored_proxy(stored: StoredProxy, used_by: int, last: TestResult | None) -> ProxyView:
    if stored.proxy:
        fields = proxy_fields(stored.proxy)
    else:
        raw = {key: _as_text(stored.raw.get(key)) for key in HOP_FIELDS}
        port = stored.raw["port"] if type(stored.raw.get("port")) is int else None
        fields = {**raw, "port": port, "password": Secret(set=False)}
    return ProxyView(**_entry(stored), **fields, used_by=used_by, last_test=last)


def view_file_proxy(proxy: Proxy, used_by: int, last: TestResult | None) -> ProxyView:
    fields = proxy_fields(proxy)
    id_ = FILE_ID + proxy.name
    return ProxyView(id=id_, source="file", **fields, used_by=used_by, last_test=last)


def view_stored_pool(stored: StoredPool, used_by: int) -> PoolView:
    if stored.pool:
        return PoolView(**_entry(stored), **stored.pool.model_dump(), used_by=used_by)
    raw = stored.raw
    return PoolView(
        **_entry(stored),
        name=stored.name,
        strategy=_as_text(raw.get("strategy")),
        sticky_by=_as_text(raw.get("sticky_by")),
        sticky_minutes=raw["sticky_minutes"] if type(raw.get("sticky_minutes")) is int else 0,
        used_by=used_by,
    )


def view_file_pool(pool: Pool, used_by: int) -> PoolView:
    return PoolView(id=FILE_ID + pool.name, source="file", **pool.model_dump(), used_by=used_by)


def view_stored_rule(stored: StoredRule, refuses: str) -> RuleView:
    fields = _rule_fields(stored.rule)
    return RuleView(
        **_entry(stored), number=stored.number, label=stored.label, **fields, refuses=refuses
    )


def view_file_rule(rule: Rule, number: int, label: str, refuses: str) -> RuleView:
    fields = _rule_fields(rule)
    id_ = f"{FILE_ID}{number}"
    return RuleView(id=id_, source="file", number=number, label=label, **fields, refuses=refuses)


def view_assignment(stored: StoredAssignment, proxy: str) -> AssignmentView:
    return AssignmentView(
        **_entry(stored),
        scope=stored.scope,
        scopeId=stored.scope_id,
        proxyId=stored.proxy_id,
        proxy=proxy,
    )


def view_usage(usage: Usage) -> UsageView:
    def refs(found: tuple[Ref, ...]) -> tuple[RefView, ...]:
        return tuple(RefView(id=one.id, name=one.name) for one in found)

    return UsageView(
        count=usage.count,
        pools=refs(usage.pools),
        rules=refs(usage.rules),
        assignments=refs(usage.assignments),
    )


def proxy_fields(proxy: Proxy) -> dict[str, Any]:
    """The fields of a proxy, the password as whether it is set."""
    fields = proxy.model_dump(exclude={"password"})
    return {**fields, "password": Secret(set=bool(proxy.password.get_secret_value()))}


def _rule_fields(rule: Rule) -> dict[str, Any]:
    fields = rule.model_dump(exclude={"use", "clients"})
    use = rule.use
    return {
        **fields,
        "clients": tuple(map(str, rule.clients)),
        "use": InlineProxyView(**proxy_fields(use)) if isinstance(use, Proxy) else use,
    }


def _entry(stored: Stored) -> dict[str, Any]:
    return {
        "id": stored.id,
        "source": "registry",
        "etag": stored.etag,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
        "problem": stored.problem,
    }


def _as_text(value: object) -> str:
    return "" if value is None else str(value)
