"""One line of a proxy list, in the forms that sellers and users hand out.

    socks5://user:pass@host:1080?family=ipv6#name      any proxy URL
    host:port, [::1]:port, user:pass@host:port         a URL without scheme; the port is required
    host:port:user:pass                                literal text; the password may hold colons
    user:pass:host:port                                the host has a dot or brackets
    name|host|port|user|pass|type|region|status|notes|family     the first three are required
    {"name": "de-1", "host": "192.0.2.1", "port": 80}  JSON, with any fields of ``Proxy``

Blank lines and ``#`` comments hold no proxy. ``Proxy`` checks the rest of each entry.

A line that begins with a host and a port always means that host, whatever its password looks like:
``gate:7000:user:k@evil.example`` means gate, and ``gate:7000@evil.example:443`` is refused with and
without a scheme (``proxy_url.py`` has the rule, and how to write a password that is a port number).
Any other line with two readings is refused too, and so is a line in which a name, an account or
notes may be a misplaced family.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from ipaddress import AddressValueError, IPv6Address
from typing import Any, Final, get_args

from ..errors import InvalidEntry
from ..sentence import Sentence
from .family import holds_family, require_proxy_family
from .host import canonical_ip, url_host, validate_proxy_host
from .list_entry import ProxyEntry, load_json, read_object
from .proxy import ProxyStatus, ProxyType
from .proxy_url import (
    AmbiguousEntry,
    begins_with_place,
    parse_port,
    parse_proxy_url,
    proxy_config_to_url,
    read_proxy_type,
)
from .text import character_name, first_hidden

LINE_SPACE: Final = " \t\r\n"
"""Space that may surround a line. Other space is refused or belongs to its field."""

ABOUT_LISTS: Final = frozenset({"proxy", "proxies", "list", "type", "protocol"})
"""Words of headings that name no type."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST_FIRST: Final = re.compile(
    r"(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>[0-9]+):(?P<username>[^:]*)(?::(?P<password>.*))?"
)
# The host must look like a host: a numeric password is not a port. Matching takes linear time.
_HOST_LAST: Final = re.compile(
    r"(?P<username>[^:]+):(?P<password>.+):(?P<host>\[[^\]]{1,99}\]|[^:.]*\.[^:]*):(?P<port>[0-9]+)"
)
_PROTOCOL: Final = re.compile(r"https?|socks[0-9a-z]*|ssl|tls")
_COUPLED: Final = re.compile(r"@|:.*:")
_PIPE_FIELDS: Final = (
    *("name", "host", "port", "username", "password"),
    *("type", "region", "status", "notes", "family"),
)
_ACCOUNT: Final = ("username", "password")
_TEXTS: Final = ("name", *_ACCOUNT, "region", "notes")
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]{0,4}:")
_LONGEST_IPV6: Final = 45
_STATUSES: Final = get_args(ProxyStatus)


def parse_proxy_line(text: str, default_type: ProxyType = "socks5") -> ProxyEntry | None:
    """Parse one line of a list; ``None`` for a blank line or a comment. The entry has at least
    ``type``, ``host`` and ``port``, and no empty fields.

    ``default_type`` applies to lines that name no type. Raises ``InvalidEntry``, also for a line
    that can be read in two ways and for a hidden character, whose position the message gives. The
    message does not quote the line.
    """
    line = text.strip(LINE_SPACE)
    if not line or line.startswith("#"):
        return None
    require_visible(text)
    if _SCHEME.match(line):
        return ProxyEntry(_not_empty(asdict(parse_proxy_url(line))))
    if line.startswith("{") and line.endswith("}"):
        return _object_entry(line, default_type)
    return _bare_entry(line, default_type)


def is_protocol(word: str) -> bool:
    """Whether a lower-case word names a protocol, supported or not."""
    return _PROTOCOL.fullmatch(word) is not None


def about_protocols(host: str) -> bool:
    """Whether a host consists of words of headings: ``socks4``, ``http-proxies``."""
    words = re.split(r"[-_]", host)
    return any(map(is_protocol, words)) and all(
        is_protocol(word) or word in ABOUT_LISTS for word in words
    )


def require_visible(text: str) -> None:
    """Raise ``InvalidEntry`` for a line with a hidden character, other than space around it."""
    line = text.strip(LINE_SPACE)
    hidden = first_hidden(line)
    if hidden is not None:
        position = len(text) - len(text.lstrip(LINE_SPACE)) + hidden + 1
        what = character_name(line[hidden])
        raise InvalidEntry(
            Sentence(
                "line_hidden",
                "Invalid proxy line: character {number} is hidden: {what}",
                number=position,
                what=what,
            )
        )


def parse_single_proxy(text: str, default_type: ProxyType = "socks5") -> ProxyEntry:
    """Parse the line for a single proxy that a person adds. Raises ``InvalidEntry``."""
    entry = parse_proxy_line(text, default_type)
    if entry is None:
        raise InvalidEntry(
            Sentence("url_expected", "A proxy URL is expected, such as socks5://user@host:1080"),
            "url",
        )
    if entry.lacks_password:
        raise InvalidEntry(
            Sentence(
                "line_without_password",
                "This line comes from an export without passwords; to add the proxy without one, "
                'remove "password" from the line',
            )
        )
    return entry


def require_type(entry: ProxyEntry) -> None:
    """Raise ``InvalidEntry`` for an entry whose type is assumed. Lists assume socks5 and everything
    else http, so outside of a list the type must be named."""
    if entry.assumes_type:
        place = f"{url_host(str(entry['host']))}:{entry['port']}"
        raise InvalidEntry(
            Sentence(
                "type_missing",
                "{place} names no type: write http://{place}, https://{place} or socks5://{place}",
                place=place,
            ),
            "type",
        )


def _object_entry(line: str, default_type: ProxyType) -> ProxyEntry:
    entry = read_object(load_json(line), default_type)
    url = parse_proxy_url(proxy_config_to_url(entry))
    place = {"type": url.type, "host": url.host, "port": url.port}
    return ProxyEntry(
        _not_empty({**entry, **place}),
        assumes_type=entry.assumes_type,
        lacks_password=entry.lacks_password,
    )


def _bare_entry(line: str, default_type: ProxyType) -> ProxyEntry:
    """The only reading of a line without scheme. If none is valid, raise the likeliest error."""
    if _begins_with_ipv6(line):
        raise InvalidEntry(
            Sentence("ipv6_brackets", "Invalid proxy host: an IPv6 address needs [brackets]"),
            "host",
        )
    readings: list[ProxyEntry] = []
    problems: list[InvalidEntry] = []
    for read in _forms(line):
        try:
            readings.append(read(default_type))
        except AmbiguousEntry:
            raise
        except InvalidEntry as error:
            problems.append(error)
    if not readings:
        raise problems[0]
    if len(readings) > 1:
        raise _ambiguous()
    if readings[0].assumes_type and about_protocols(str(readings[0]["host"])):
        raise InvalidEntry(
            Sentence(
                "line_like_heading",
                "Ambiguous proxy line: its host looks like a heading; write a scheme such as "
                "http:// before such a host",
            ),
            "host",
        )
    return readings[0]


def _forms(line: str) -> Iterator[Callable[[ProxyType], ProxyEntry]]:
    """The possible readings, the likeliest first."""
    if line.count("|") > 1:
        yield partial(_pipe_entry, line)
    host_first = _HOST_FIRST.fullmatch(line)
    if host_first:
        yield partial(_host_first_entry, host_first)
        if canonical_ip(host_first["host"]):
            return  # a username is not an IP address
    is_plain = host_first is not None and "." not in host_first["host"]  # may be a user as well
    host_last = _HOST_LAST.fullmatch(line)
    if host_last and (is_plain or ":" not in host_last["password"]):
        yield partial(_host_last_entry, host_last)
    if is_plain or not host_first:
        yield partial(_url_entry, line)


def _pipe_entry(line: str, default_type: ProxyType) -> ProxyEntry:
    # Messages quote nothing: a | within the password shifts the fields.
    parts = [part.strip() for part in line.split("|")]
    if len(parts) > len(_PIPE_FIELDS):
        raise InvalidEntry(
            Sentence(
                "line_fields", "Invalid proxy line: more than ten fields; no field can hold a |"
            )
        )
    if _COUPLED.search(parts[0]) and begins_with_place(parts[0]):
        raise _ambiguous()  # a host and port as a name is fine, as in 192.0.2.1:80
    fields = dict(zip(_PIPE_FIELDS, parts, strict=False))
    if (type_ := fields.get("type")) and not read_proxy_type(type_):
        raise InvalidEntry(
            Sentence("type_words", "Invalid proxy type: it must be http, https or socks5"), "type"
        )
    if status := fields.get("status"):
        fields["status"] = status.lower()
        if fields["status"] not in _STATUSES:
            raise InvalidEntry(
                Sentence("status_words", "Invalid proxy status: it must be active or inactive"),
                "status",
            )
    if family := fields.get("family"):
        require_proxy_family(family)
    return _entry(fields, default_type)


def _host_first_entry(match: re.Match[str], default_type: ProxyType) -> ProxyEntry:
    if match["password"] is None:
        raise InvalidEntry(
            Sentence(
                "line_password",
                "Invalid proxy line: write host:port:user:password, or host:port:user: without a "
                "password",
            ),
            "password",
        )
    return _entry(match.groupdict(), default_type)


def _host_last_entry(match: re.Match[str], default_type: ProxyType) -> ProxyEntry:
    entry = _entry(match.groupdict(), default_type)
    if begins_with_place(match.string):
        raise _ambiguous()
    return entry


def _begins_with_ipv6(line: str) -> bool:
    """Whether the line begins with an address such as ``cafe:8080::1``, perhaps with a port."""
    if not _HEXADECIMAL.match(line):
        return False
    colons = [match.start() for match in re.finditer(":", f"{line[:_LONGEST_IPV6]}:")]
    return any(_is_ipv6(line[:end]) for end in colons)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _url_entry(line: str, default_type: ProxyType) -> ProxyEntry:
    url = parse_proxy_url(f"{default_type}://{line}", require_port=True)
    return ProxyEntry(_not_empty(asdict(url)), assumes_type=True)


def _entry(given: Mapping[str, str], default_type: ProxyType) -> ProxyEntry:
    type_ = read_proxy_type(given.get("type", ""))
    host, port = validate_proxy_host(given["host"]), parse_port(given["port"])
    for field in _TEXTS:
        text = given.get(field) or ""
        if holds_family(re.sub(r"\s", "|", text) if field in _ACCOUNT else text):
            raise AmbiguousEntry(
                Sentence(
                    "line_family",
                    "Ambiguous proxy line: its {field} looks like a family; write a URL, "
                    "type://user:pass@host:port?family=ipv6, or put the family into the tenth "
                    "field of a line with |; if it really is the {field}, write JSON",
                    field=field,
                ),
                "family",
            )
    fields = {**given, "type": type_ or default_type, "host": host, "port": port}
    return ProxyEntry(_not_empty(fields), assumes_type=type_ is None)


def _not_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value != ""}


def _ambiguous() -> AmbiguousEntry:
    return AmbiguousEntry(
        Sentence(
            "line_ambiguous", "Ambiguous proxy line: write it as a URL, type://user:pass@host:port"
        )
    )
