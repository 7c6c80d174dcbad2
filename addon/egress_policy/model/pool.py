"""Pools of interchangeable proxies, as the policy file and the registry describe them.

Frozen, validated values. ``policy/selection`` picks members, ``management/checks.py`` checks
them.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..errors import InvalidEntry
from ..sentence import Sentence
from .family_urls import FamilyUrls

Strategy = Literal["first", "round-robin", "random", "least-connections", "latency", "sticky"]
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)
Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
HEADER: Final = "header:"
"""Begins a ``sticky_by`` that names a header of the request."""
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_SPAN: Final = re.compile(r"([0-9]{1,6})\s*(s|m|h)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_STATUSES: Final = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_LONGEST: Final = 86_400
_LIKE_A_WEIGHT: Final = re.compile(r"=[0-9]+\Z")


def _sticky_by(value: object) -> object:
    if value == "account":  # the older word
        return "user"
    if value in ("client", "user", "host"):
        return value
    if isinstance(value, str) and value.startswith(HEADER):
        name = value.removeprefix(HEADER)
        if _TOKEN.fullmatch(name):
            return HEADER + name.lower()
    raise InvalidEntry(
        Sentence("sticky_by", "sticky_by must be client, user, host or header:NAME"), "sticky_by"
    )


def _strategy(value: object) -> object:
    if value in STRATEGIES:
        return value
    raise InvalidEntry(
        Sentence("strategy", "strategy must be one of {words}", words=STRATEGIES), "strategy"
    )


def parse_span(value: object) -> int:
    """A time in seconds: a whole number, or a text such as ``90s``, ``5m`` or ``1h``.

    Raises ``InvalidEntry`` for anything else, and outside one second to one day.
    """
    if isinstance(value, str) and (match := _SPAN.fullmatch(value.strip())):
        value = int(match[1]) * _SECONDS[match[2]]
    if type(value) is int and 1 <= value <= _LONGEST:
        return value
    raise InvalidEntry(
        Sentence("span", "a time from 1s to 24h is expected, such as 60s, 5m or 1h"), "every"
    )


def _statuses(value: object) -> str:
    text = str(value) if type(value) is int else value  # a status alone is a number in YAML
    match = _STATUSES.fullmatch(text.strip()) if isinstance(text, str) else None
    if match and int(match[1]) <= int(match[2] or match[1]):
        return match[0]
    raise InvalidEntry(
        Sentence("statuses", "a status or a range is expected, such as 204 or 200-399"), "expect"
    )


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Member(_Value):
    """A proxy in a pool, by name. It is written as its name alone where it weighs 1."""

    name: Name
    weight: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping | Member):
            return value
        raise InvalidEntry(Sentence("member", "write a name, or {name: …, weight: …}"), "members")

    @model_serializer
    def _shortest(self) -> str | dict[str, Any]:
        return self.name if self.weight == 1 else {"name": self.name, "weight": self.weight}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = handler.resolve_ref_schema(handler(schema))
        name = described["properties"]["name"]
        return {"title": cls.__name__, "anyOf": [name, described]}

    def __str__(self) -> str:
        """As the command line takes it."""
        is_plain = self.weight == 1 and not _LIKE_A_WEIGHT.search(self.name)
        return self.name if is_plain else f"{self.name}={self.weight}"


class Checks(_Value):
    """How members are checked. ``every`` is in seconds. Without ``url`` a check goes as far as the
    greeting of the proxy."""

    every: Annotated[
        int,
        BeforeValidator(parse_span),
        Field(json_schema_extra={"type": ["integer", "string"]}),
    ] = 60
    url: FamilyUrls | None = None
    expect: Annotated[str, BeforeValidator(_statuses)] = "200-399"
    members: Literal["down", "all"] = "down"

    def accepts(self, status: int) -> bool:
        """Whether the status of an answer is an expected one."""
        low, _, high = self.expect.partition("-")
        return int(low) <= status <= int(high or low)


class Pool(_Value):
    """Interchangeable proxies. A pool without members is valid and refuses.

    ``sticky_by`` and ``sticky_minutes`` are for the strategy ``sticky``. ``failover`` is how many
    further members are tried while no tunnel stands. With the same ``seed`` the same events give
    the same picks.
    """

    name: Name
    members: tuple[Member, ...]
    strategy: Annotated[
        Strategy, BeforeValidator(_strategy), Field(json_schema_extra={"enum": [*STRATEGIES]})
    ] = "round-robin"
    sticky_by: Annotated[str, BeforeValidator(_sticky_by)] = "client"
    sticky_minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] = 30
    failover: Annotated[int, Field(strict=True, ge=0, le=5)] = 1
    seed: Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)] | None = None
    checks: Checks | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the members, in order."""
        return tuple(member.name for member in self.members)

    @model_validator(mode="after")
    def _members_differ(self) -> Self:
        seen: set[str] = set()  # a pool may have thousands of members
        for member in self.members:
            if member.name in seen:
                raise InvalidEntry(
                    Sentence("member_twice", "{name!r} is listed twice", name=member.name),
                    "members",
                )
            seen.add(member.name)
        return self
