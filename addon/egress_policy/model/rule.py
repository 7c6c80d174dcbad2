"""Rules, and the policy that they make up with proxies and pools.

Frozen, validated values. ``policy/consistency.py`` checks the names in them, ``policy/snapshot.py``
resolves the names, and ``policy/matching.py`` matches the rules.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, Literal, Protocol, Self, cast

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
from ..sentence import Sentence
from .decision import Target
from .family import ProxyFamily
from .host import canonical_ip, connect_family, require_host, url_host
from .network import Network, parse_client_network
from .pool import Pool
from .proxy import Proxy, TargetFamily

Default = Literal["direct", "refuse"]
Location = tuple[str | int, ...]
"""A place in a policy: ``("rules", 2, "use")``."""

DIRECT: Final = "direct"
REFUSE: Final = "refuse"
OTHER: Final = "(other)"
"""What all those share in counts and metrics that have none of their own."""
RESERVED: Final = frozenset({DIRECT, REFUSE, "upstream", OTHER})
"""Names that no proxy or pool can have, in any case."""

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
        raise InvalidEntry(
            Sentence("pattern_address", "Invalid host pattern: an IP address has no sub-domains"),
            "hosts",
        )
    try:
        host = literal or require_host(name)
    except InvalidEntry as error:
        raise InvalidEntry(
            Sentence("pattern_invalid", "Invalid host pattern: {why}", why=error.text), "hosts"
        ) from error
    return host if name == text else f"*.{host}"


def _not_empty[T](condition: tuple[T, ...]) -> tuple[T, ...]:
    if not condition:
        raise ValueError(Sentence("empty_list", "an empty list is not allowed; leave the key out"))
    return condition


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
            raise InvalidEntry(
                Sentence("family_direct", "family goes with `use: direct`; a proxy has its own"),
                "family",
            )
        if self.target_family and self.use in (DIRECT, REFUSE):
            raise InvalidEntry(
                Sentence("target_family", "target_family needs a proxy or a pool"), "target_family"
            )
        try:
            for host in self.hosts:
                connect_family(host, self.family or self.target_family or "auto")
        except EgressError as error:
            raise InvalidEntry(error.text, "hosts") from error
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
            yield location, Sentence("name_reserved", "{name!r} is a reserved name", name=name)
        elif name in seen:
            yield location, Sentence("name_twice", "{name!r} is used twice", name=name)
        seen.add(name)
