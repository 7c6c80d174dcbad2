"""Pools, rules and the policy they make up, as the policy file and the registry describe them.

Frozen, validated values. ``policy/consistency.py`` checks the names in them, ``policy/snapshot.py``
resolves the names, and ``policy/matching.py`` matches the rules.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final, Literal, Protocol, Self, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.config import JsonDict

from ..errors import EgressError, InvalidEntry
from .decision import Target
from .family import ProxyFamily
from .host import canonical_ip, connect_family, require_host, url_host
from .proxy import Proxy, TargetFamily

Network = IPv4Network | IPv6Network
Default = Literal["direct", "refuse"]
Strategy = Literal["first", "round-robin", "random", "sticky", "latency"]
AVAILABLE: Final = ("first", "round-robin")
"""The strategies of this version. A stored pool may have another one, and then refuses."""
Location = tuple[str | int, ...]
"""A place in a policy: ``("rules", 2, "use")``."""

DIRECT: Final = "direct"
REFUSE: Final = "refuse"
RESERVED: Final = frozenset({DIRECT, REFUSE, "upstream"})
"""Names that no proxy or pool can have, in any case."""

# Other text is not quoted in messages: it may be a misplaced password.
_ADDRESS_CHARACTERS: Final = re.compile(r"[0-9A-Fa-f:./]+")
_MAPPED_BITS: Final = 96  # ::ffff:0:0/96 is the IPv4 internet, RFC 4291 section 2.5.5.2

_Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"),
]
_Name = Annotated[_Text, Field(min_length=1)]


class Filter(Protocol):
    """A compiled filter expression. The result is ``None`` if only the request can tell."""

    @property
    def expression(self) -> str: ...

    @property
    def needs_request(self) -> bool: ...

    def __call__(self, target: Target) -> bool | None: ...


FilterCompiler = Callable[[str], Filter]
"""Raises ``ValueError`` with a message for people."""


def parse_host_pattern(text: str) -> str:
    """Parse ``*``, an exact host, or ``*.example.org``: sub-domains at any depth, not itself.

    Returns the canonical form, comparable with a result of ``normalize_target_host``. Raises
    ``InvalidEntry`` (field "hosts"), which does not quote the text.
    """
    if text == "*":
        return text
    name = text.removeprefix("*.")
    literal = canonical_ip(name)
    if literal and name != text:
        raise InvalidEntry("Invalid host pattern: an IP address has no sub-domains", "hosts")
    try:
        host = literal or require_host(name)
    except InvalidEntry as error:
        raise InvalidEntry(f"Invalid host pattern: {error}", "hosts") from error
    return host if name == text else f"*.{host}"


def parse_client_network(value: object) -> Network:
    """Parse ``192.0.2.0/24`` or a single address; an IPv4-mapped one becomes IPv4.

    Raises ``InvalidEntry`` (field "clients"), also for bits set after the prefix.
    """
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str) or not _ADDRESS_CHARACTERS.fullmatch(value):
        raise InvalidEntry("Invalid client: write 192.0.2.0/24, 2001:db8::/32 or an IP", "clients")
    try:
        network = ip_network(value)
    except ValueError as error:
        raise InvalidEntry(f"Invalid client: {error}", "clients") from error
    mapped = isinstance(network, IPv6Network) and network.network_address.ipv4_mapped
    if mapped and network.prefixlen >= _MAPPED_BITS:
        return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def _not_empty[T](condition: tuple[T, ...]) -> tuple[T, ...]:
    if not condition:
        raise ValueError("an empty list is not allowed; leave the key out")
    return condition


def unavailable(strategy: str) -> str:
    """The reason why a strategy cannot be used, empty if it can."""
    if strategy in AVAILABLE:
        return ""
    return f"strategy {strategy} is not available in this version; use {' or '.join(AVAILABLE)}"


def _known_strategy(value: object) -> object:
    if value in get_args(Strategy):
        return value
    raise InvalidEntry(f"strategy must be {' or '.join(AVAILABLE)}", "strategy")


def _without_default(schema: JsonDict) -> None:
    """An empty text means no filter, but cannot be entered as one."""
    schema.pop("default", None)


def _inline_proxy(value: object, validate: ValidatorFunctionWrapHandler) -> Proxy:
    if not isinstance(value, dict) or "name" in value:
        return cast(Proxy, validate(value))
    proxy: Proxy = validate({**value, "name": "inline"})
    name = f"{proxy.type}://{url_host(proxy.host)}:{proxy.port}"
    return proxy.model_copy(update={"name": name})


def _kind_of_use(value: object) -> str:
    return "proxy" if isinstance(value, dict | Proxy) else "name"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Pool(_Value):
    """Interchangeable proxies. A pool without members is valid and refuses."""

    name: _Name
    members: tuple[_Name, ...]
    strategy: Annotated[
        Strategy,
        BeforeValidator(_known_strategy),
        Field(json_schema_extra={"enum": [*AVAILABLE]}),
    ] = "round-robin"
    sticky_by: Literal["client", "host", "account"] = "client"
    sticky_minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] = 30

    @model_validator(mode="after")
    def _members_differ(self) -> Self:
        seen: set[str] = set()  # a pool may have thousands of members
        for member in self.members:
            if member in seen:
                raise InvalidEntry(f"{member!r} is listed twice", "members")
            seen.add(member)
        return self


class Rule(_Value):
    """Which egress a target takes if all conditions hold. A rule without conditions always holds.

    ``use`` names a proxy or a pool, is ``direct`` or ``refuse``, or is a proxy object; an object
    without a name is called ``type://host:port``. ``family`` pins a direct egress;
    ``target_family`` pins the hop behind the proxy and overrides the proxy's own. A condition
    cannot be an empty list: emptying it would turn the rule into a rule for everything.
    """

    name: _Text = ""
    hosts: Annotated[
        tuple[Annotated[str, AfterValidator(parse_host_pattern)], ...], AfterValidator(_not_empty)
    ] = ()
    clients: Annotated[
        tuple[Annotated[Network, BeforeValidator(parse_client_network)], ...],
        AfterValidator(_not_empty),
    ] = ()
    ports: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1, le=65535)], ...], AfterValidator(_not_empty)
    ] = ()
    filter: Annotated[str, Field(min_length=1, json_schema_extra=_without_default)] = ""
    use: Annotated[
        Annotated[_Name, Tag("name")]
        | Annotated[Proxy, WrapValidator(_inline_proxy), Tag("proxy")],
        Discriminator(_kind_of_use),
    ]
    family: ProxyFamily | None = None
    target_family: TargetFamily | None = None

    @model_validator(mode="after")
    def _families_fit(self) -> Self:
        if self.family is not None and self.use != DIRECT:
            raise InvalidEntry("family goes with `use: direct`; a proxy has its own", "family")
        if self.target_family and self.use in (DIRECT, REFUSE):
            raise InvalidEntry("target_family needs a proxy or a pool", "target_family")
        try:
            for host in self.hosts:
                connect_family(host, self.family or self.target_family or "auto")
        except EgressError as error:
            raise InvalidEntry(str(error), "hosts") from error
        return self


class Policy(_Value):
    """A whole policy, in order. ``default`` is ``None`` if the option decides."""

    proxies: tuple[Proxy, ...] = ()
    pools: tuple[Pool, ...] = ()
    rules: tuple[Rule, ...] = ()
    default: Default | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        entries: tuple[Any, ...] = (*self.proxies, *self.pools)
        for _, message in name_conflicts(((), entry.name) for entry in entries):
            raise InvalidEntry(message, "name")
        return self


def name_of_deleted(name: object, id_: object) -> str:
    """The ``use`` of a rule whose entry was deleted. It names nothing."""
    return f"{str(name)[:80]} (deleted {str(id_)[:8]})"


def name_of_shadowed(name: str) -> str:
    """The ``use`` of a registry rule whose name the policy file has too. It names nothing."""
    return f"{name} (of the registry)"


_NAMES_NOTHING: Final = re.compile(r" \((?:deleted [^()]{1,8}|of the registry)\)\s*\Z")


def is_reserved(name: str, reserved: frozenset[str] = RESERVED) -> bool:
    """Whether a name cannot be used: it has a meaning in rules, or stands there for a deleted
    entry, and a new proxy of that name would revive the rule."""
    return name.casefold() in reserved or bool(_NAMES_NOTHING.search(name))


def name_conflicts(
    names: Iterable[tuple[Location, str]], reserved: frozenset[str] = RESERVED
) -> Iterator[tuple[Location, str]]:
    """The places where a name is reserved or used again, each with a message."""
    seen: set[str] = set()
    for location, name in names:
        if is_reserved(name, reserved):
            yield location, f"{name!r} is a reserved name"
        elif name in seen:
            yield location, f"{name!r} is used twice"
        seen.add(name)
