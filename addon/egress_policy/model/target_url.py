"""The URL of a request: ``scheme://host[:port][/path][?query]``.

Parsed by hand: ``urllib.parse`` drops tabs and line ends silently. Messages do not quote the text,
which may hold a secret.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, cast

from ..errors import InvalidEntry
from ..sentence import Parameter, Sentence
from .host import is_target_host, normalize_target_host, require_host, url_host

Scheme = Literal["http", "https", "ws", "wss"]

_PORTS: Final[dict[str, int]] = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#\\]*)(?P<path>[^#\\]*)(?:#.*)?"
)
_HOST_PORT: Final = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{0,5}))?")
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """``host`` is canonical, ``port`` filled in; ``path`` includes the query and begins with
    ``/``."""

    scheme: Scheme
    host: str
    port: int
    path: str

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("https", "wss")

    @property
    def authority(self) -> str:
        """The ``Host`` header: without the port if it is the default of the scheme."""
        host = url_host(self.host)
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target_url(text: str, field: str = "url") -> TargetUrl:
    """Parse an absolute URL of HTTP or WebSocket. A fragment is dropped, because it is never sent.

    Raises ``InvalidEntry`` for ``field``, also for user and password, which are not needed here.
    """
    url = _URL.fullmatch(text)
    if not url or any(c == " " or unicodedata.category(c) in {"Cc", "Cs"} for c in text):
        raise _invalid(
            field, "target_absolute", "write an absolute URL such as https://example.com/"
        )
    scheme = url["scheme"].lower()
    if scheme not in _PORTS:
        raise _invalid(field, "target_scheme", "its scheme must be http, https, ws or wss")
    if "@" in url["authority"]:
        raise _invalid(field, "target_user", "leave out user and password")
    place = _HOST_PORT.fullmatch(url["authority"])
    host = normalize_target_host(place["host"]) if place else ""
    if not is_target_host(host):
        raise _invalid(field, "target_host", "its host is missing or invalid")
    port = int((place and place["port"]) or _PORTS[scheme])
    if not 0 < port < 65536:
        raise _invalid(field, "target_port", "its port must be a number from 1 to 65535")
    path = url["path"] if url["path"].startswith("/") else f"/{url['path']}"
    return TargetUrl(cast(Scheme, scheme), host, port, path)


def parse_test_url(value: object) -> TargetUrl:
    """Parse the URL that proxies are tested with: http or https, ASCII after its host, no fragment,
    at most 1000 characters. Raises ``InvalidEntry`` (field "test_url")."""
    field = "test_url"
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise _invalid(
            field, "text_to_limit", "a text of 1 to {limit} characters is expected", limit=_LONGEST
        )
    url = parse_target_url(value, field)
    if url.scheme not in ("http", "https"):
        raise _invalid(field, "target_http", "its scheme must be http or https")
    if "#" in value or not url.path.isascii():
        raise _invalid(
            field, "target_ascii", "a fragment and characters beyond ASCII are not allowed"
        )
    try:
        require_host(url.host)
    except InvalidEntry as error:
        raise _because(field, error.text) from error
    return url


def _invalid(field: str, code: str, why: str, **params: Parameter) -> InvalidEntry:
    return _because(field, Sentence(code, why, **params))


def _because(field: str, why: str) -> InvalidEntry:
    return InvalidEntry(Sentence("target_invalid", "Invalid URL: {why}", why=why), field)
