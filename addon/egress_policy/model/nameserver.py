"""A nameserver as ``egress_dns`` names it: text to frozen value and back.

=====================================  ====================================================
``192.0.2.53``, ``2001:db8::1``        plain DNS, port 53
``127.0.0.1:5354``, ``[::1]:5354``     plain DNS, another port
``tls://192.0.2.53``                   DNS over TLS (RFC 7858), port 853
``tls://192.0.2.53:853#dns.example``   the certificate is for that name, not the address
``https://dns.example/dns-query``      DNS over HTTPS (RFC 8484)
=====================================  ====================================================
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import InvalidEntry
from .host import canonical_ip, url_host, validate_proxy_host

Transport = Literal["dns", "tls", "https"]

_DEFAULT_PORTS: Final[dict[Transport, int]] = {"dns": 53, "tls": 853, "https": 443}
_FORMS: Final = (
    "write 192.0.2.53, 192.0.2.53:5354, 2001:db8::1, [2001:db8::1]:5354, "
    "tls://192.0.2.53[:853][#name in its certificate] or https://dns.example/dns-query"
)


@dataclass(frozen=True, slots=True)
class Nameserver:
    """Where and how to ask. ``str()`` gives a text that parses to an equal value.

    ``host`` is a canonical IP literal, or for https also a hostname. A tls certificate must be
    valid for ``name``, or if that is empty for the address. ``path`` is the path of an https URL
    with its query.
    """

    transport: Transport
    host: str
    port: int
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        scheme = "" if self.transport == "dns" else f"{self.transport}://"
        name = f"#{url_host(self.name)}" if self.name else ""
        return f"{scheme}{url_host(self.host)}:{self.port}{self.path}{name}"


def parse_nameserver(text: str) -> Nameserver:
    """Parse any form above. Raises ``InvalidEntry`` (field "nameserver") with the fault."""
    try:
        return _parse(text)
    except ValueError as error:
        # Messages go to logs and answers: do not repeat a URL with credentials there.
        quoted = "" if "@" in text else f" {text!r}"
        message = f"Invalid nameserver{quoted}: {error}; {_FORMS}"
        raise InvalidEntry(message, "nameserver") from error


def _parse(text: str) -> Nameserver:
    scheme, marker, rest = text.partition("://")
    match scheme.lower() if marker else "":
        case "":
            return Nameserver("dns", *_parse_address(text, "dns"))
        case "tls":
            return _parse_tls(rest)
        case "https":
            return _parse_url(rest)
    raise ValueError("its scheme must be tls or https")


def _parse_tls(text: str) -> Nameserver:
    address, marker, name = text.partition("#")
    name = validate_proxy_host(name) if marker else ""
    return Nameserver("tls", *_parse_address(address, "tls"), name)


def _parse_url(text: str) -> Nameserver:
    where, slash, path = text.partition("/")
    if not slash or not path.isprintable() or not {" ", "#", "{"}.isdisjoint(path):
        raise ValueError("the URL needs a path, without space, fragment or template")
    host, port = _split_port(where, _DEFAULT_PORTS["https"])
    return Nameserver("https", validate_proxy_host(host), port, path=f"/{path}")


def _parse_address(text: str, transport: Transport) -> tuple[str, int]:
    host, port = _split_port(text, _DEFAULT_PORTS[transport])
    literal = canonical_ip(host)
    if literal is None or ipaddress.ip_address(literal).is_unspecified:
        raise ValueError("its host must be the IP address of one machine")
    return literal, port


def _split_port(text: str, default: int) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    if not colon or canonical_ip(text):
        return text, default
    if ":" in host and not host.startswith("["):
        raise ValueError("an IPv6 address with a port needs brackets")
    if not re.fullmatch("[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
        raise ValueError("its port must be a number from 1 to 65535")
    return host, int(digits)
