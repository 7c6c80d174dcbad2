"""Proxy lists as text, one proxy a line, in the forms that sellers and users hand out.

    socks5://user:pass@host:1080?family=ipv6#name      any proxy URL
    user:pass@host:port, host:port, [::1]:port         a URL without scheme; the port is required
    host:port:user:pass                                user and password without escapes
    user:pass:host:port                                the host has a dot or brackets
    name|host|port|user|pass|type|region|status|notes  fields after the port may be left out

Blank lines and ``#`` comments hold nothing. A line of only ``http``, ``https`` or ``socks5`` gives
the type of the lines after it that state none. What else a proxy needs is checked by ``Proxy``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final, get_args

from ..errors import InvalidEntry
from .host import validate_proxy_host
from .proxy import DEFAULT_PORTS, ProxyStatus, ProxyType
from .proxy_url import parse_port, parse_proxy_type, parse_proxy_url

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Four parts and no more, so that no IPv6 address without brackets can be taken for one of these.
# The second asks for a host that looks like one, or every numeric password would match both.
_COLON_FORMS: Final = (
    re.compile(
        r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>[0-9]+):(?P<username>[^:]+):(?P<password>[^:]+)"
    ),
    re.compile(
        r"(?P<username>[^:]+):(?P<password>[^:]+)"
        r":(?P<host>\[[^\]]+\]|[^:]*\.[^:]*):(?P<port>[0-9]+)"
    ),
)
_PIPE_FIELDS: Final = (
    *("name", "host", "port", "username", "password"),
    *("type", "region", "status", "notes"),
)
_PIPE_WORDS: Final = {"type": get_args(ProxyType), "status": get_args(ProxyStatus)}


class ProxyEntry(Mapping[str, str | int]):
    """The fields that a line states, under their names in ``Proxy``. Read-only.

    ``type``, ``host`` and ``port`` are always there. ``repr`` shows no password.
    """

    def __init__(self, fields: Mapping[str, str | int]) -> None:
        self._fields = {key: value for key, value in fields.items() if value != ""}

    def __getitem__(self, key: str) -> str | int:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        shown = {k: "**********" if k == "password" else v for k, v in self._fields.items()}
        return f"{type(self).__name__}({shown})"


def parse_proxy_line(text: str, default_type: ProxyType = "socks5") -> ProxyEntry | None:
    """One line of a list, ``None`` if it is blank or a comment.

    ``default_type`` is for lines that state no type. Raises ``InvalidEntry``, also for a line
    that can be read in two ways; the message does not quote the line.
    """
    line = text.strip()
    if not line or line.startswith("#"):
        return None
    if _SCHEME.match(line):
        return ProxyEntry(asdict(parse_proxy_url(line)))
    if line.count("|") > 1:
        return _pipe_entry(line, default_type)
    return _shorthand_entry(line, default_type)


def parse_proxy_lines(text: str) -> Iterator[tuple[int, ProxyEntry | InvalidEntry | None]]:
    """Each line of a list with its number, from 1: its entry, ``None`` if it holds none, or its
    error. Raises nothing.
    """
    default_type: ProxyType = "socks5"
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if (word := line.strip().lower()) in DEFAULT_PORTS:
            default_type = parse_proxy_type(word)
            yield number, None
            continue
        try:
            yield number, parse_proxy_line(line, default_type)
        except InvalidEntry as error:
            yield number, error


def _pipe_entry(line: str, default_type: ProxyType) -> ProxyEntry:
    parts = line.split("|", len(_PIPE_FIELDS) - 1)
    stated = dict(zip(_PIPE_FIELDS, map(str.strip, parts), strict=False))
    for key, words in _PIPE_WORDS.items():
        stated[key] = stated.get(key, "").lower()
        if stated[key] and stated[key] not in words:
            # not quoted: a | within the password shifts the fields
            raise InvalidEntry(f"Invalid proxy {key}: it must be {' or '.join(words)}", key)
    return _entry(stated, parse_proxy_type(stated["type"] or default_type))


def _shorthand_entry(line: str, default_type: ProxyType) -> ProxyEntry:
    readings: list[ProxyEntry] = []
    try:
        url = parse_proxy_url(f"{default_type}://{line}", require_port=True)
        readings.append(ProxyEntry(asdict(url)))
    except InvalidEntry as error:
        problem = error
    for form in _COLON_FORMS:
        if match := form.fullmatch(line):
            try:
                readings.append(_entry(match.groupdict(), default_type))
            except InvalidEntry as error:
                problem = error
    if not readings:
        raise problem
    if len(readings) > 1:
        raise InvalidEntry("Ambiguous proxy line: write it as a URL, type://user:pass@host:port")
    return readings[0]


def _entry(stated: Mapping[str, str], type_: ProxyType) -> ProxyEntry:
    host, port = validate_proxy_host(stated["host"]), parse_port(stated["port"])
    return ProxyEntry({**stated, "type": type_, "host": host, "port": port})
