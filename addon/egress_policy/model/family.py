"""The family directive ``auto | ipv4 | ipv6``: its two readers and the words for it.

``host.py`` says what a directive means for a host.
"""

import re
from typing import Final, Literal

from ..errors import InvalidEntry
from ..sentence import Sentence

ProxyFamily = Literal["auto", "ipv4", "ipv6"]
FamilyNumber = Literal[4, 6]

_DIRECTIVES: Final[dict[str, ProxyFamily]] = {"auto": "auto", "ipv4": "ipv4", "ipv6": "ipv6"}
_MEANT: Final = re.compile(
    r"(?:^|[^a-z0-9_-])family\s*=|(?:^|[?&#|;:]\s*|[,/@]|[(\[])ipv[46][^a-z0-9]*$", re.IGNORECASE
)
_NUMBERS: Final[dict[ProxyFamily, FamilyNumber]] = {"ipv4": 4, "ipv6": 6}


def parse_proxy_family(value: object) -> ProxyFamily:
    """Lenient reader for missing or legacy values: exactly "ipv4" or "ipv6", else "auto".

    As OmniRoute's ``parseProxyFamily``. Never raises. For input that is meant as a directive use
    ``require_proxy_family``: a typo must not remove a pin.
    """
    return _DIRECTIVES.get(value, "auto") if isinstance(value, str) else "auto"


def require_proxy_family(value: object) -> ProxyFamily:
    """Strict reader for every boundary that takes a directive.

    Raises ``InvalidEntry`` (field "family") for anything but the three words, without trimming
    or changing case.
    """
    if isinstance(value, str) and value in _DIRECTIVES:
        return _DIRECTIVES[value]
    raise InvalidEntry(
        Sentence("family_words", "Invalid proxy family: it must be auto, ipv4 or ipv6"), "family"
    )


def holds_family(text: str) -> bool:
    """Whether ``text``, which stands where no directive is read, may be meant as a directive: it is
    a family word, ends in a family word after a separator, or holds ``family=``."""
    return _MEANT.search(text) is not None


def family_number(family: ProxyFamily) -> FamilyNumber | None:
    """4, 6, or ``None`` for auto."""
    return _NUMBERS.get(family)


def family_name(family: str | None) -> str:
    """``IPv4`` or ``IPv6``; empty for whatever pins nothing."""
    return {"ipv4": "IPv4", "ipv6": "IPv6"}.get(family or "", "")


def family_label(number: FamilyNumber) -> str:
    """``IPv4`` or ``IPv6``."""
    return f"IPv{number}"


def record_label(number: FamilyNumber) -> str:
    """The DNS record type that carries the family: ``A`` or ``AAAA``."""
    return "A" if number == 4 else "AAAA"
