"""An upstream proxy as the policy file and the registry describe it: a frozen, validated value.

Names are unique within a snapshot; ``policy/snapshot.py`` sees to it. ``proxy_url.py`` describes a
proxy as a single URL.
"""

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from ..errors import InvalidEntry, Unavailable
from ..sentence import Sentence
from .family import ProxyFamily, family_name
from .host import connect_family, validate_proxy_host
from .network import Network, parse_exit_network
from .tags import Tags
from .text import character_name, first_hidden

ProxyType = Literal["http", "https", "socks5"]
TargetFamily = Literal["ipv4", "ipv6"]
PlainHttp = Literal["forward", "connect"]
ProxyStatus = Literal["active", "inactive"]
Health = Literal["watch", "ignore"]
ExitFamily = Literal["ipv4", "ipv6"]

DEFAULT_PORTS: Final[dict[ProxyType, int]] = {"http": 8080, "https": 443, "socks5": 1080}
_SOCKS5_CREDENTIAL_LIMIT: Final = 255  # RFC 1929 section 2: the length is one octet


def _printable(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError(
            Sentence("not_printable", "control characters and lone surrogates are not allowed")
        )
    return text


def _printable_lines(text: str) -> str:
    _printable(" ".join(text.split()))
    return text


def _seen(text: str) -> str:
    """Reject hidden characters, as RFC 8265 section 4.2 does, but do not map odd spaces."""
    if (hidden := first_hidden(text)) is not None:
        what = character_name(text[hidden])
        raise ValueError(
            Sentence(
                "hidden_character",
                "character {number} is hidden: {what}",
                number=hidden + 1,
                what=what,
            )
        )
    return text


def _seen_secret(secret: SecretStr) -> SecretStr:
    _seen(secret.get_secret_value())
    return secret


class Proxy(BaseModel):
    """An upstream proxy. ``port`` defaults to the port of the type.

    ``family`` pins the hop to the proxy, ``target_family`` the hop behind it. ``plain_http`` says
    whether an http or https proxy gets requests for ``http://`` in absolute form or through
    CONNECT. ``health: ignore`` switches its circuit off, ``max_connections`` limits the open
    connections (0: no limit). ``exit_family`` and ``exit_in`` say which address a target should
    see; with ``exit_enforce`` the proxy is refused unless a fresh observation agrees. ``region``,
    ``notes`` and ``tags`` are for people: no decision depends on them.

    Raises ``pydantic.ValidationError``. Its text and the ``repr`` of the value hide the password;
    its ``errors()`` do so only with ``include_input=False``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=120),
        AfterValidator(_printable),
    ]
    type: ProxyType = "http"
    host: Annotated[str, AfterValidator(validate_proxy_host)]
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = DEFAULT_PORTS["http"]
    family: ProxyFamily = "auto"
    username: Annotated[str, AfterValidator(_seen)] = ""
    password: Annotated[SecretStr, AfterValidator(_seen_secret)] = SecretStr("")
    target_family: TargetFamily | None = None
    plain_http: PlainHttp = "forward"
    region: Annotated[str, Field(max_length=64), AfterValidator(_printable)] = ""
    notes: Annotated[str, Field(max_length=1000), AfterValidator(_printable_lines)] = ""
    tags: Tags = ()
    status: ProxyStatus = "active"
    health: Health = "watch"
    max_connections: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    exit_family: ExitFamily | None = None
    exit_in: Annotated[
        tuple[Annotated[Network, BeforeValidator(parse_exit_network)], ...], Field(max_length=100)
    ] = ()
    exit_enforce: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="before")
    @classmethod
    def _port_of_type(cls, fields: object) -> object:
        # A default factory would add an error about the port to every other error.
        if isinstance(fields, Mapping) and "port" not in fields:
            for type_, port in DEFAULT_PORTS.items():
                if fields.get("type") == type_:
                    return {**fields, "port": port}
        return fields

    @model_validator(mode="after")
    def _host_has_family(self) -> Self:
        try:
            connect_family(self.host, self.family)
        except Unavailable as error:
            raise InvalidEntry(error.text, "family") from error
        return self

    @model_validator(mode="after")
    def _exits_fit(self) -> Self:
        if self.exit_enforce and not self.exit_family and not self.exit_in:
            why = Sentence(
                "enforce_needs_exit",
                "exit_enforce needs an expected exit: give exit_family or exit_in too",
            )
            raise InvalidEntry(why, "exit_enforce")
        for network in self.exit_in:
            if self.exit_family and self.exit_family != f"ipv{network.version}":
                why = Sentence(
                    "exit_in_family",
                    "{network} is no {label} network, but exit_family is {family}",
                    network=str(network),
                    label=family_name(self.exit_family),
                    family=self.exit_family,
                )
                raise InvalidEntry(why, "exit_in")
        return self

    @model_validator(mode="after")
    def _basic_can_express_it(self) -> Self:
        if self.type != "socks5" and ":" in self.username:
            why = Sentence(
                "username_colon",
                "a username for Basic authentication cannot contain a colon (RFC 7617 section 2)",
            )
            raise InvalidEntry(why, "username")
        return self

    @model_validator(mode="after")
    def _socks5_can_express_it(self) -> Self:
        if self.type != "socks5":
            return self
        if self.plain_http != "forward":
            raise InvalidEntry(
                Sentence("plain_http_only", "plain_http applies to http and https proxies only"),
                "plain_http",
            )
        username, password = self.username, self.password.get_secret_value()
        longest = max(len(text.encode()) for text in (username, password))
        if longest > _SOCKS5_CREDENTIAL_LIMIT or (password and not username):
            why = Sentence(
                "socks5_credentials",
                "socks5 needs a username for a password, and at most 255 bytes of each",
            )
            raise InvalidEntry(why, "username")
        return self
