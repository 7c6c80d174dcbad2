"""Hosts as text: IP literals, hostnames, and what a family directive means for them.

A canonical host is a lower-case A-label name without a trailing dot, or an IP literal without
brackets. An IPv4-mapped IPv6 address counts as IPv4, because the kernel sends IPv4 for it. This
module looks nothing up.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final, Literal

from ..errors import InvalidEntry, Reason, Unavailable
from ..sentence import Parameter, Sentence
from .family import FamilyNumber, ProxyFamily, family_label, family_number
from .text import character_name, first_hidden

Party = Literal["Proxy", "Target"]
"""Whose host a message is about."""

_SCOPE_ID: Final = re.compile(r"[A-Za-z0-9._~-]+")  # RFC 6874 without its percent-escapes
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")  # real proxies have underscores
_TARGET_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_PLAIN: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])"
)
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAME_LIMIT: Final = 253  # RFC 1035 section 3.1, in the text form without trailing dot
_TEXT_LIMIT: Final = (
    4 * _NAME_LIMIT
)  # a label may be entered in more characters than it ends up with
# Python's codec is IDNA 2003. IDNA 2008 maps these characters to another name (UTS #46 section 7,
# "deviations"), so the text does not say which host is meant.
_DEVIATIONS: Final = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")

_REMEMBERED: Final = 4096  # the same hosts and clients come back with every flow


@lru_cache(_REMEMBERED)
def canonical_ip(text: str) -> str | None:
    """The literal in its canonical spelling (RFC 5952, no brackets), ``None`` for other text.

    ``[2001:DB8:0::1]`` gives ``2001:db8::1``, ``::ffff:cb00:7107`` gives ``203.0.113.7``. A
    link-local address keeps its scope id (``fe80::1%eth0``); elsewhere a scope id changes nothing
    and is dropped. In brackets it may follow ``%25`` (RFC 6874); without them ``%25`` means
    interface number 25.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].replace("%25", "%", 1)
    if ":" not in text and not text[-1:].isdigit():
        return None  # the common case, a name, without the cost of an exception
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if address.scope_id is not None:
            if not _SCOPE_ID.fullmatch(address.scope_id):
                return None
            if not address.is_link_local:
                return str(ipaddress.IPv6Address(address.packed))
    return str(address)


def detect_ip_literal_family(host: str) -> FamilyNumber | None:
    """4 or 6 for an IP literal (with or without brackets and scope id), ``None`` for a name."""
    literal = canonical_ip(host)
    if literal is None:
        return None
    return 6 if ":" in literal else 4


def is_unspecified(literal: str) -> bool:
    """Whether a canonical literal names no host: systems connect to themselves instead."""
    return literal in {"0.0.0.0", "::"}  # noqa: S104 - refused, not bound


def connect_family(host: str, family: ProxyFamily, party: Party = "Proxy") -> FamilyNumber | None:
    """The only family in which ``host`` may be dialled, ``None`` if the directive allows both.

    ``auto`` takes a literal's own family and allows both for a hostname. Raises ``Unavailable``
    (``LITERAL_CONTRADICTION``) if the literal is of the other family; the message begins with
    ``party``.
    """
    literal, wanted = detect_ip_literal_family(host), family_number(family)
    if literal and wanted and literal != wanted:
        raise Unavailable(
            Reason.LITERAL_CONTRADICTION,
            Sentence(
                "contradicts_literal",
                "{party} family directive {family} contradicts {literal} literal host",
                party=party,
                family=family,
                literal=family_label(literal),
            ),
        )
    return wanted or literal


@lru_cache(_REMEMBERED)
def normalize_target_host(host: str) -> str:
    """The canonical form of a host that a flow asks for; never raises.

    A spelling that the system's resolver reads as an IPv4 address (``127.1``, ``0x7f.1``,
    ``2130706433``) becomes that address, so that the policy judges what is dialled. Text that has
    no A-label form is returned in lower case, and ``is_target_host`` rejects it.
    """
    if literal := canonical_ip(host):
        return literal
    name = host.lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii").lower()
        except UnicodeError:
            return name.rstrip(".")
    name = name.rstrip(".")
    return canonical_ip(name) or _legacy_ipv4(name) or name


@lru_cache(_REMEMBERED)
def is_target_host(host: str) -> bool:
    """Whether a result of ``normalize_target_host`` is an IP literal or a host name.

    A name has letters, digits, hyphens and underscores in labels of up to 63 characters. Other text
    means something special to some resolver or proxy (glibc reads ``*`` as loopback), and a name
    whose last label is a number was meant as an address.
    """
    if canonical_ip(host):
        return True
    labels = host.split(".")
    return (
        len(host) <= _NAME_LIMIT
        and all(map(_TARGET_LABEL.fullmatch, labels))
        and not _NUMERIC.fullmatch(labels[-1])
    )


def validate_proxy_host(text: str) -> str:
    """The canonical form of a proxy's host as a person entered it; see ``require_host``."""
    try:
        return require_host(text)
    except InvalidEntry as error:
        why = Sentence("invalid_host", "Invalid proxy host: {why}", why=error.text)
        raise InvalidEntry(why, "host") from error


def require_host(text: str) -> str:
    """The canonical form of a host as a person entered it: a hostname (IDN too) or an IP literal.

    Raises ``InvalidEntry`` (field "host") for anything around the host (scheme, user, port, path,
    space), for brackets around anything but IPv6 (RFC 3986 section 3.2.2), for a hidden character
    (IDNA silently drops most of them), for an unspecified address, and for spellings that the
    system's resolver reads as a number (``127.1``, ``0x7f.1``, ``010.1.1.1``), which would slip
    past the family check. The message never quotes the text, which may hold a password.
    """
    host = canonical_ip(text) or _canonical_name(text)
    if text.startswith("[") and ":" not in text:
        raise _invalid("host_brackets", "brackets are for IPv6 addresses")
    if is_unspecified(host):
        raise _invalid("host_unspecified", "the unspecified address cannot be dialled")
    return host


def url_host(host: str) -> str:
    """``host`` as written in a URL: IPv6 in brackets, the scope id after ``%25`` (RFC 6874)."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def _legacy_ipv4(name: str) -> str | None:
    """The address that inet_aton(3) reads: one to four numbers, the last one filling the rest."""
    parts = name.split(".")
    if len(parts) > 4 or not all(map(_NUMERIC.fullmatch, parts)):
        return None
    try:
        *leading, last = (
            int(part, 16 if part.startswith("0x") else 8 if part.startswith("0") else 10)
            for part in parts
        )
    except ValueError:  # an octal number with an 8 or 9 in it, or 0x alone
        return None
    room = 4 - len(leading)
    if any(number > 255 for number in leading) or last >= 256**room:
        return None
    packed = bytes(leading) + last.to_bytes(room)
    return str(ipaddress.IPv4Address(packed))


def _canonical_name(text: str) -> str:
    if _PLAIN.fullmatch(text) and len(text) <= _NAME_LIMIT and "xn--" not in text:
        return text  # the common case; thousands of names are read at the start
    if not text:
        raise _invalid("host_empty", "it is empty")
    if (hidden := first_hidden(text)) is not None:
        what = character_name(text[hidden])
        why = "its character {number} is hidden: {what}"
        raise _invalid("host_hidden", why, number=hidden + 1, what=what)
    if len(text) > _TEXT_LIMIT:  # Python's codec takes seconds for long text
        raise _too_long()
    if not _DEVIATIONS.isdisjoint(text):
        raise _invalid("host_idn", "its IDN can be read in two ways; write its xn-- form")
    try:
        name = text.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        why = "it has an empty or too long label, or a forbidden character"
        raise _invalid("host_label", why) from error
    if literal := canonical_ip(name):
        return literal
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        why = "a hostname or IP literal is expected, without scheme, user, port or path"
        raise _invalid("host_expected", why)
    if len(name) > _NAME_LIMIT:
        raise _too_long()
    if _NUMERIC.fullmatch(labels[-1]):
        why = "it reads as a number; write IPv4 as four decimal numbers"
        raise _invalid("host_number", why)
    return name


def _too_long() -> InvalidEntry:
    return _invalid("host_long", "it is longer than {limit} characters", limit=_NAME_LIMIT)


def _invalid(code: str, why: str, **params: Parameter) -> InvalidEntry:
    return InvalidEntry(Sentence(code, why, **params), "host")
