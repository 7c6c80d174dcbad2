"""The proxies of a Clash configuration or proxy provider (YAML or JSON), as entries of a list.

    proxies:
      - {name: de-1, type: socks5, server: 192.0.2.1, port: 1080, username: u, password: p}
      - {name: de-2, type: http, server: proxy.example.com, port: 443, tls: true, ip-version: ipv6}

Only types ``http`` and ``socks5`` have a counterpart here; entries of other types are left out, and
the list says so. An entry that asks for what a proxy here cannot do, such as SOCKS5 within TLS, is
an error, because it would lead another way. Scalars are read as they are written, so that the
password ``0123`` stays what it is. Messages quote no value, except a type that is a plain word.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..errors import InvalidEntry
from ..model.list_entry import NotCarried, ProxyEntry
from ..model.proxy import DEFAULT_PORTS
from ..model.proxy_list import LEFT_OUT, ListResult, ProxyList
from ..model.proxy_url import parse_port
from ..sentence import Sentence
from .yaml_lines import YamlProblem, parse_yaml

_CLASH: Final = re.compile(
    r"""
      ^"?proxies"?:[ \t]*(?:\#.*)?\r?\n(?:[ \t]*(?:\#.*)?\r?\n)*   # a block:
        [ \t]*-[ \t]*(?:\{|[\w-]+:[ \t])                           # its first entry is a mapping
    | ^proxies:[ \t]*\[[ \t\r\n]*\{                                # or a list in one piece
    | \A\s*\{\s*"proxies"\s*:                                      # or JSON
    """,
    re.MULTILINE | re.VERBOSE,
)
_KEY: Final = re.compile(r"""["']?[\w-]+["']?:(?:\s|$)|\{\s*(?:"proxies"\s*:|$)""")
_FAMILIES: Final = {"": "auto", "dual": "auto", "ipv4": "ipv4", "ipv6": "ipv6"}
_PREFERENCES: Final = {"ipv4-prefer": "IPv4", "ipv6-prefer": "IPv6"}
_OTHER_WAYS: Final = (
    *("dialer-proxy", "interface-name", "routing-mark", "headers"),
    *("certificate", "private-key", "client-fingerprint", "fingerprint"),
)
"""Keys by which the connection would be another one than here."""
_FLAGS: Final = {"true": True, "false": False}
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")


def is_clash(text: str) -> bool:
    """Whether a text looks like a Clash configuration, rather than another list of proxies."""
    text = text.removeprefix("\ufeff")
    return _begins_with_a_key(text) and _CLASH.search(text) is not None


def parse_clash(text: str) -> ProxyList:
    """The proxies of a Clash configuration. The text is read when the entries are asked for, which
    may take seconds. Never raises: an ``InvalidEntry`` takes the place of what cannot be read."""
    return ProxyList("item", _items(text.removeprefix("\ufeff")), text.count("server"))


def _begins_with_a_key(text: str) -> bool:
    """Whether the first line that says something is a key of YAML or JSON. A cell of CSV, further
    down, may look like a whole configuration."""
    for line in io.StringIO(text):
        said = line.strip()
        if said and not said.startswith(("#", "---")):
            return _KEY.match(said) is not None
    return False


def _items(text: str) -> Iterator[tuple[int, ListResult]]:
    try:
        document = parse_yaml(text.replace("\r\n", "\n"), as_text=True).data
    except YamlProblem as error:
        why = f"This is not YAML that can be read: {error} in line {error.line}"
        yield 1, InvalidEntry(why)
        return
    items = document.get("proxies") if isinstance(document, Mapping) else None
    if not isinstance(items, list):
        yield 1, InvalidEntry('A list is expected under "proxies"')
        return
    for number, item in enumerate(items, 1):
        try:
            yield number, _entry(item)
        except InvalidEntry as error:
            yield number, error


def _entry(item: object) -> ProxyEntry:
    if not isinstance(item, Mapping):
        raise InvalidEntry("a mapping with name, type, server and port is expected")
    type_ = _type(item)
    for key in _OTHER_WAYS:
        if _text(item, key):
            raise InvalidEntry(f"{key} has no counterpart here", key)
    host, port = _text(item, "server"), _text(item, "port")
    if not host:
        raise InvalidEntry("server is required", "server")
    sni = _text(item, "sni") or _text(item, "servername")
    if type_ == "https" and sni not in ("", host):
        why = "sni is another name than server: here the certificate has to be for the server"
        raise InvalidEntry(why, "sni")
    family, remarks = _family(item)
    if type_ == "https" and _flag(item, "skip-cert-verify"):
        remarks.append("its certificate is checked here")
    fields: dict[str, Any] = {
        "name": _text(item, "name"),
        "type": type_,
        "host": host,
        "port": parse_port(port) if port else DEFAULT_PORTS[type_],
        "username": _text(item, "username"),
        "password": _text(item, "password"),
        "family": family,
    }
    return ProxyEntry(
        {key: value for key, value in fields.items() if value != ""},
        lacks_password=not fields["password"] and _flag(item, LEFT_OUT),
        remark="; ".join(remarks),
    )


def _type(item: Mapping[str, object]) -> Any:
    """http, https or socks5. Raises ``NotCarried`` for a type that has no counterpart."""
    type_ = _text(item, "type").lower()
    if type_ not in ("http", "socks5"):
        left_out = "the type {type} is left out: there are http and socks5 here"
        named = type_ if _TYPE.fullmatch(type_) else "…"
        raise NotCarried(Sentence("clash_type", left_out, type=named), "type")
    if not _flag(item, "tls"):
        return type_
    if type_ == "socks5":
        raise InvalidEntry("SOCKS5 within TLS has no counterpart here", "tls")
    return "https"


def _family(item: Mapping[str, object]) -> tuple[str, list[str]]:
    """The pin, and what is to be said about it."""
    version = _text(item, "ip-version").lower()
    if preferred := _PREFERENCES.get(version):
        return "auto", [f"it prefers {preferred} there, which is auto here: set a family to pin it"]
    if version not in _FAMILIES:
        raise InvalidEntry("ip-version is none of dual, ipv4, ipv6 and a preference", "ip-version")
    return _FAMILIES[version], []


def _text(item: Mapping[str, object], key: str) -> str:
    """A scalar as text; empty for what is missing or null."""
    value = item.get(key)
    if value is None or value is False:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise InvalidEntry(f"{key}: a text or a number is expected", key)


def _flag(item: Mapping[str, object], key: str) -> bool:
    value = item.get(key)
    flag = _FLAGS.get("false" if value is None else str(value).lower())
    if flag is None:
        raise InvalidEntry(f"{key}: true or false is expected", key)
    return flag
