"""A proxy as a single URL: ``scheme://[user[:password]@]host[:port][/][?family=ipv4|ipv6][#name]``.

    socks5://alice:s%40fe@[2001:db8::1]:1080?family=ipv6#de-1

Parsed by hand: ``urllib.parse`` drops tabs and line ends silently and does not check hosts.
The canonical form always has the port, has the family marker once and never for ``auto``, and has
no name. Messages quote neither credentials nor the text around them, because a password may stand
anywhere in a malformed URL.

People also write ``host:port:user:password`` and ``host:port@user:password``, and put a scheme
before it. So credentials have two readings, and are refused, if they begin with a host, a colon and
a port number that end there or are followed by ``:`` or ``@``: ``alice:8080@h:80`` and
``alice:8080:x@h:80`` are refused, ``alice:pw8080@h:80`` and ``alice:123456@h:80`` are not. An
escape marks a password (``alice:%38080@h:80``), and the canonical form writes it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from pydantic import SecretStr

from ..errors import InvalidEntry
from ..sentence import Sentence
from .family import FamilyNumber, ProxyFamily, holds_family, require_proxy_family
from .host import connect_family, url_host, validate_proxy_host
from .proxy import DEFAULT_PORTS, Proxy, ProxyType

_TYPES: Final[dict[str, ProxyType]] = {
    "http": "http",
    "https": "https",
    "socks5": "socks5",
    "socks5h": "socks5",  # curl: the proxy resolves the target, as socks5 does here
}
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<name>.*))?",
    re.DOTALL,
)
_HOST_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>.*))?", re.DOTALL)
_PLACE_FIRST: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:@]*):(?P<port>[0-9]{1,5})(?=[:@]|$)")
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


class AmbiguousEntry(InvalidEntry):
    """A text that names different proxies in different readings."""


@dataclass(frozen=True, slots=True)
class ParsedProxyUrl:
    """The fields of a proxy URL: canonical host, port filled in, credentials without escapes."""

    type: ProxyType
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    family: ProxyFamily = "auto"
    name: str = ""

    def url(self) -> str:
        """The canonical URL, with the password: never log it."""
        username, password = quote(self.username, safe=""), quote(self.password, safe="")
        if begins_with_place(f"{username}:{password}"):
            password = f"%{ord(password[0]):02X}{password[1:]}"
        credentials = f"{username}:{password}@" if password else f"{username}@" if username else ""
        marker = "" if self.family == "auto" else f"?family={self.family}"
        return f"{self.type}://{credentials}{url_host(self.host)}:{self.port}{marker}"


def parse_proxy_url(text: str, *, require_port: bool = False) -> ParsedProxyUrl:
    """Parse a proxy URL. Surrounding space is ignored; a missing or empty port (RFC 3986 section
    3.2.3) is the default of the scheme.

    The last ``@`` of the authority ends the credentials, their first ``:`` ends the username. A
    ``%`` that starts no UTF-8 escape is literal. ``resolve_connect_family`` and ``Proxy`` check a
    literal against the family. Raises ``InvalidEntry`` whose ``field`` is the faulty part, and
    ``AmbiguousEntry`` if the credentials begin with a host and a port or the name holds a family
    (``#de-1?family=ipv6``).
    """
    text = text.strip()
    url = _URL.fullmatch(text)
    if not url:
        raise InvalidEntry(
            Sentence("url_scheme", "Invalid proxy URL: it has no scheme such as http://"), "scheme"
        )
    type_ = parse_proxy_type(url["scheme"])
    if "@" in text[url.end("authority") :]:
        # "http://user:pa#ss@host" must not dial "user" and show "ss@host" as a name
        raise InvalidEntry(
            Sentence(
                "url_at",
                "Invalid proxy URL: an @ after the host; in a password write / ? # as %2F %3F %23, "
                "and in a name write @ as %40",
            ),
            "password",
        )
    if url["path"] not in {"", "/"}:
        raise InvalidEntry(Sentence("url_path", "Invalid proxy URL: a path is not allowed"), "path")
    credentials, _, location = url["authority"].rpartition("@")
    username, _, password = credentials.partition(":")
    host, port = _split_location(location)
    place = (
        validate_proxy_host(host),
        parse_port(port or "") if port or require_port else DEFAULT_PORTS[type_],
    )
    if begins_with_place(credentials):
        raise AmbiguousEntry(
            Sentence(
                "url_two_places",
                "Ambiguous proxy URL: the text before the last @ reads as a host and its port; "
                "write the proxy's own host and port after the @, and the first digit of a numeric "
                "password as %30 to %39",
            ),
            "password",
        )
    if holds_family(url["name"] or ""):
        raise AmbiguousEntry(
            Sentence(
                "url_name_family",
                "Ambiguous proxy URL: its name reads as a family; write ?family=ipv6 before the #, "
                "and in a name that holds such words write i as %69",
            ),
            "family",
        )
    return ParsedProxyUrl(
        type_,
        *place,
        _unescape(username, "username"),
        _unescape(password, "password"),
        _family_marker(url["query"] or ""),
        _unescape(url["name"] or "", "name"),
    )


def normalize_proxy_url(text: str) -> str:
    """The canonical form of a proxy URL, which is its own canonical form. Raises ``InvalidEntry``.

    As OmniRoute's ``normalizeProxyUrl``, but explicit ports 80 and 443 are kept.
    """
    return parse_proxy_url(text).url()


def url_with_name(url: str, name: str) -> str:
    """``url`` with the fragment ``name``, escaped so that no part of it reads as a family."""
    quoted = quote(name, safe="")
    if holds_family(quoted):
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    return f"{url}#{quoted}"


def proxy_config_to_url(config: Mapping[str, object] | Proxy) -> str:
    """The canonical URL of a proxy object (``host``, and optionally ``type``, ``port``,
    ``username``, ``password``, ``family``; other keys are ignored, ``None`` counts as absent).

    As OmniRoute's ``proxyConfigToUrl``, except that an object without host raises
    ``InvalidEntry``, as other bad fields do; there it means "no proxy".
    """
    fields = {key: value for key, value in dict(config).items() if value is not None}
    type_ = parse_proxy_type(_text(fields, "type", "http"))
    return ParsedProxyUrl(
        type_,
        validate_proxy_host(_text(fields, "host")),
        parse_port(str(fields.get("port", DEFAULT_PORTS[type_]))),
        _text(fields, "username"),
        _text(fields, "password"),
        require_proxy_family(fields.get("family", "auto")),
    ).url()


def resolve_connect_family(url: str) -> FamilyNumber | None:
    """The family in which a URL's proxy is dialled: 4, 6, or ``None`` for a name under auto.

    As OmniRoute's ``resolveDispatcherFamily``. Raises ``InvalidEntry`` for a bad URL and
    ``EgressError`` (``LITERAL_CONTRADICTION``) for a marker that contradicts a literal host.
    """
    parsed = parse_proxy_url(url)
    return connect_family(parsed.host, parsed.family)


def read_proxy_type(text: str) -> ProxyType | None:
    """http, https or socks5 in any case, or ``socks5h`` for socks5; otherwise ``None``."""
    return _TYPES.get(text.lower())


def parse_proxy_type(text: str) -> ProxyType:
    """Like ``read_proxy_type``, but raises ``InvalidEntry``, which quotes the text."""
    if type_ := read_proxy_type(text):
        return type_
    raise InvalidEntry(
        Sentence(
            "type_unsupported",
            "Unsupported proxy type {type!r}: use http, https or socks5",
            type=text,
        ),
        "type",
    )


def parse_port(text: str) -> int:
    """Parse 1..65535 in ASCII digits. Raises ``InvalidEntry``, which does not quote the text."""
    if re.fullmatch(r"[0-9]{1,5}", text) and 0 < int(text) < 65536:
        return int(text)
    raise InvalidEntry(
        Sentence("port_range", "Invalid proxy port: a number from 1 to 65535 is expected"), "port"
    )


def begins_with_place(text: str) -> bool:
    """Whether the text begins with ``host:port``, followed by its end, a ``:`` or an ``@``.

    Text with a dot or brackets was meant as a host, whether it is valid or not.
    """
    place = _PLACE_FIRST.match(text)
    if place is None:
        return False
    if "." in place["host"] or place["host"].startswith("["):
        return True
    try:
        return bool(validate_proxy_host(place["host"]) and parse_port(place["port"]))
    except InvalidEntry:
        return False


def _split_location(location: str) -> tuple[str, str | None]:
    if location.count(":") > 1 and not location.startswith("["):
        raise InvalidEntry(
            Sentence(
                "host_colons",
                "Invalid proxy host: too many colons; an IPv6 address needs [brackets]",
            ),
            "host",
        )
    if parts := _HOST_PORT.fullmatch(location):
        return parts["host"], parts["port"]
    raise InvalidEntry(
        Sentence("host_around", "Invalid proxy host: unexpected text around the [brackets]"), "host"
    )


def _family_marker(query: str) -> ProxyFamily:
    parameters = [part.partition("=") for part in query.split("&") if part]
    for key, _, _ in parameters:
        if key != "family":
            raise InvalidEntry(
                Sentence(
                    "url_parameter", "Invalid proxy URL: unknown query parameter {key!r}", key=key
                ),
                "query",
            )
    if len(parameters) > 1:
        raise InvalidEntry(
            Sentence("family_twice", "Invalid proxy family: it appears more than once"), "family"
        )
    return require_proxy_family(parameters[0][2]) if parameters else "auto"


def _unescape(text: str, field_: str) -> str:
    def decode(escapes: re.Match[str]) -> str:
        try:
            return unquote(escapes[0], errors="strict")
        except UnicodeDecodeError:
            return escapes[0]

    return _encodable(_ESCAPES.sub(decode, text), field_)


def _encodable(text: str, field_: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidEntry(
            Sentence(
                "lone_surrogate", "Invalid proxy {field}: it holds a lone surrogate", field=field_
            ),
            field_,
        )
    return text


def _text(fields: Mapping[str, object], key: str, default: str = "") -> str:
    value = fields.get(key, default)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        return _encodable(value, key)
    raise InvalidEntry(
        Sentence("proxy_text", "Invalid proxy {field}: a text is expected", field=key), key
    )
