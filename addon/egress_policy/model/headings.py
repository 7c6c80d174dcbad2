"""Headings in a list of proxies: lines that are no proxy but give the type of the lines below.

    SOCKS5, [socks5], # --- HTTP proxies:, Updated 2026-11-29 10:00 - SOCKS5, | SOCKS5 | 120 |

A heading that is not understood must not leave the type of the section before it in force. So every
protocol word in a line that is no proxy counts, also in a comment. An unsupported protocol, or
several of them, make the type unknown. So does a line that names a protocol and looks like a failed
proxy. ``proxy_line.py`` decides whether a line is a proxy.
"""

import re
import unicodedata
from typing import Final, Literal

from ..errors import InvalidEntry
from ..sentence import Sentence
from .host import canonical_ip
from .proxy import ProxyType
from .proxy_line import ABOUT_LISTS, LINE_SPACE, about_protocols, is_protocol, parse_proxy_line
from .proxy_url import read_proxy_type
from .text import first_hidden

Section = ProxyType | Literal["unknown"]
"""What a heading says about the lines below it."""

_DECORATION: Final = "[](){}<>=-*_~.:,;! "
_WORD: Final = re.compile(r"[^\W_]+")
_URL: Final = re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://[\w\[]\S*")
_DOTTED: Final = re.compile(r"(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}(?![\w-])")
_FILES: Final = frozenset({"txt", "csv", "tsv", "json", "list", "lst", "conf", "md"})
_TWO_IN_ONE: Final = re.compile(r"\bhttp[(/]s\b|\bsocks[45][ah]?\s*[/,&+]\s*v?[45]\b")
_COUNTED: Final = re.compile(r"([\w-]+):[0-9]+")  # SOCKS5:120, a heading or a host
_PLACE: Final = re.compile(
    r"""
      \S@\S                                                    # an account
    | \[[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*\]                     # IPv6
    | (?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])         # IPv4
    | \w\.[a-z][\w-]*(?::[0-9]|[\s,;|]+[0-9]{2,5}(?![\w./:-]))  # a name and a port
    | ^(?=[^:]*[a-z])[\w.-]+:[0-9]+(?::|$)                      # a name without a dot and a port
    | ^[\w-]+(?:\.[\w-]+)+$                                    # a host alone
    """,
    re.VERBOSE,
)


def parse_heading(line: str) -> Section | None:
    """The type that a line which is no proxy gives to the lines below, ``None`` if it gives none.
    A comment that holds a proxy gives none; a lone word outside of a comment gives a type."""
    text = _plain(line)
    is_comment = text.startswith("#")
    if is_comment:
        text = text.lstrip("# \t")
    if re.match(r'\{\s*"', text) or (is_comment and _is_proxy(text)):
        return None
    named = _protocols(text)
    if not named:
        return None if is_comment else _lone_word(text)
    is_clear = len(named) == 1 and not _holds_place(text) and (is_comment or not _hides(line))
    return named.pop() if is_clear else "unknown"


def heading_problem(line: str, found: Section, problem: InvalidEntry) -> InvalidEntry | None:
    """The problem to report for a heading outside of a comment. If the line may have been meant as
    a proxy, this is ``problem``, the reason why it is none."""
    text = _plain(line)
    if _holds_place(text) or _COUNTED.fullmatch(text) or _hides(line):
        return problem
    if found != "unknown":
        return None
    return InvalidEntry(
        Sentence(
            "line_heading",
            "Invalid proxy line: a proxy has host and port at least, a heading is http, https or "
            "socks5; lines below this one have to name their type",
        ),
        "type",
    )


def _plain(line: str) -> str:
    """In lower case, without invisible characters, and with full-width letters made ordinary."""
    seen = "".join(
        one for one in line.strip(LINE_SPACE) if one.isspace() or first_hidden(one) is None
    )
    return unicodedata.normalize("NFKC", seen).lower().strip()


def _protocols(text: str) -> set[Section]:
    """The types for the protocol words of a line that are not part of a site's name."""
    text = _DOTTED.sub(_unless_site, _URL.sub(" ", text))
    words = _WORD.findall(_TWO_IN_ONE.sub("socks", text))
    return {read_proxy_type(word) or "unknown" for word in words if is_protocol(word)}


def _unless_site(dotted: re.Match[str]) -> str:
    """Remove ``https-checker.example``, but keep ``socks4.txt`` and ``http-proxies.new``."""
    labels = dotted[0].split(".")
    return dotted[0] if labels[-1] in _FILES or any(map(about_protocols, labels)) else " "


def _hides(line: str) -> bool:
    return first_hidden(line.strip(LINE_SPACE)) is not None


def _is_proxy(text: str) -> bool:
    try:
        return parse_proxy_line(text) is not None
    except InvalidEntry:
        return False


def _lone_word(text: str) -> Section | None:
    if re.search(r"[@|]|:[0-9]|://.", text) or canonical_ip(text):
        return None
    if "." in text.strip(_DECORATION) and not re.search(r"\s", text):
        return None  # a host without a port
    words = [word for word in _WORD.findall(text) if word not in ABOUT_LISTS]
    return "unknown" if len(words) == 1 and not words[0].isdecimal() else None


def _holds_place(text: str) -> bool:
    """Whether the line may mean a proxy, not just a heading with a count, a date or a source."""
    if (counted := _COUNTED.fullmatch(text)) and about_protocols(counted[1]):
        return False
    text = _URL.sub(" ", text)
    fields = text.split("|")
    if _PLACE.search(text) or (len(fields) > 2 and all(map(str.strip, fields[:3]))):
        return True
    joined = not re.search(r"\s", text) and re.search(r"\w[:|,;]+\w", text)
    first = next(iter(_WORD.findall(text)), "")
    return bool(joined and not is_protocol(first) and first not in ABOUT_LISTS)
