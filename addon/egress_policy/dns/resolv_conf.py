"""The system's nameservers, as resolv.conf(5) lists them. Pure: bytes to a frozen value.

Lines are read as the C library reads them, and leniently where the intent is plain (a byte order
mark, leading spaces). A line that cannot be used becomes a described problem; the rest still
counts.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final

from ..model.host import canonical_ip

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LOOPBACK: Final = "127.0.0.1"
_CONNECTED: Final = {"0.0.0.0": _LOOPBACK, "::": "::1"}  # noqa: S104 - where systems connect them
_WITHOUT_EFFECT: Final = frozenset({b"domain", b"search", b"sortlist", b"lookup", b"family"})
_QUOTED: Final = 60
"""How many characters of a word a problem repeats."""


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The content of a file. ``servers`` are canonical IP literals, link-local ones with a scope
    id.

    All servers count, although the C library stops at three. Without a usable server the value is
    127.0.0.1 alone, as in the C library. ``timeout`` (seconds, 1 to 30) and ``attempts`` (1 to 5)
    are the options of that name with the limits of the C library; ``rotate`` asks the servers in
    turn, ``tcp`` is the option ``use-vc``. Each of ``problems`` names a line and word that is not
    used.

    There is no search list and no ``ndots``: pinned names are looked up as fully qualified.
    """

    servers: tuple[str, ...]
    timeout: float = 5.0
    attempts: int = 2
    rotate: bool = False
    tcp: bool = False
    problems: tuple[str, ...] = ()


def parse_resolv_conf(content: bytes) -> ResolvConf:
    """Parse any ``content``; never raises."""
    servers: list[str] = []
    options: dict[bytes, bytes] = {}
    problems: list[str] = []
    for number, line in enumerate(content.removeprefix(_BYTE_ORDER_MARK).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith((b"#", b";")):
            continue
        key = words[0].lower()
        if key == b"nameserver":
            try:
                servers.append(_server(words[1:]))
            except ValueError as error:
                problems.append(f"line {number}: {error}")
        elif key == b"options":
            options |= {word.partition(b":")[0]: word.partition(b":")[2] for word in words[1:]}
        elif key not in _WITHOUT_EFFECT:
            problems.append(f"line {number}: unknown keyword {_quoted(words[0])}")
    return ResolvConf(
        tuple(servers) or (_LOOPBACK,),
        _number(options, b"timeout", 5, 30, problems),
        _number(options, b"attempts", 2, 5, problems),
        b"rotate" in options,
        b"use-vc" in options,
        tuple(problems),
    )


def _server(words: list[bytes]) -> str:
    """The address after ``nameserver``; later words are ignored. Raises ``ValueError`` with the
    reason why there is no usable address."""
    if not words:
        raise ValueError("the address is missing")
    literal = canonical_ip(words[0].decode("latin-1"))
    if literal is None:
        raise ValueError(f"{_quoted(words[0])} is not an IP address")
    address = ipaddress.ip_address(literal)
    if address.is_multicast:
        raise ValueError(f"{literal} is not the address of one machine")
    if address.version == 6 and address.is_link_local and not address.scope_id:
        raise ValueError(f"{literal} needs its interface, as in {literal}%eth0")
    return _CONNECTED.get(literal, literal)


def _number(
    options: dict[bytes, bytes], name: bytes, default: int, limit: int, problems: list[str]
) -> int:
    text = options.get(name)
    if text is None:
        return default
    if not text.isdigit() or len(text) > 9 or not int(text):
        problems.append(f"the option {name.decode()} is not a number above 0")
        return default
    return min(int(text), limit)


def _quoted(word: bytes) -> str:
    return ascii(word[:_QUOTED].decode("latin-1"))
