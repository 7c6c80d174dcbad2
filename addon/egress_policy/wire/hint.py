"""What the first bytes of a server tell if it is no proxy of the configured type.

People often enter a SOCKS port as an HTTP proxy, an HTTP port as a SOCKS proxy, or a port behind
TLS as one without it. Each server then answers in its own protocol. This module does no I/O.
"""

from typing import Final, Literal

from ..sentence import Sentence

Kind = Literal["http", "https", "socks5"]
"""The protocol that was spoken to the server, as a proxy type."""

_HTTP: Final = Sentence("hint_http", "an HTTP proxy (type http)")
_TLS: Final = Sentence("hint_tls", "a proxy behind TLS (type https)")
_SOCKS5: Final = Sentence("hint_socks5", "a SOCKS proxy (type socks5)")
_SOCKS4: Final = Sentence("hint_socks4", "a SOCKS4 proxy, which is not supported")
# RFC 9112 section 4; a TLS alert, RFC 8446 section 5.1; RFC 1928 section 3; the refusals of SOCKS4.
_SIGNS: Final[tuple[tuple[bytes, Kind | None, str], ...]] = (
    (b"HTTP/", "http", _HTTP),
    (b"\x15\x03", "https", _TLS),
    (b"\x05", "socks5", _SOCKS5),
    *((bytes((0, code)), None, _SOCKS4) for code in range(0x5B, 0x5E)),
)


SILENT_TO_SOCKS: Final = Sentence(
    "silent_to_socks", ": it did not answer the SOCKS greeting, so it may be an HTTP proxy"
)
SILENT_TO_TLS: Final = Sentence(
    "silent_to_tls", ": it did not answer the TLS greeting, so it may be a proxy without TLS"
)
"""Clauses for a silent server: an HTTP proxy waits for the end of a line."""


def hint(first: bytes, spoken: Kind) -> str | None:
    """A clause to append to a sentence, such as ``: this looks like an HTTP proxy (type http)``.

    Empty if the ``first`` bytes of an answer are no sign of another protocol than ``spoken``,
    ``None`` while there are too few bytes to tell. Bytes after a sign change nothing.
    """
    undecided = False
    for sign, kind, what in _SIGNS:
        if kind == spoken:
            continue
        if first.startswith(sign):
            return Sentence("looks_like", ": this looks like {what}", what=what)
        undecided = undecided or sign.startswith(first)
    return None if undecided else ""
