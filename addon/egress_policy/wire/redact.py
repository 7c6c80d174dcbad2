"""Removes a proxy's account from what the proxy, or a server behind it, sends back.

A proxy may repeat the credentials that it received: in a status line, a header, a line that no
parser accepts. Such texts end in answers, logs and saved flows, so each is redacted on its way in.
This module is pure and uses no HTTP library.

An account is found as ``user:password``, as either part alone, and in the Base64 of a ``Basic``
credential (RFC 7617): with or without padding, in the URL alphabet, within the Base64 of a longer
text. Each is found literally, percent-encoded once or twice, form-encoded, escaped as in Python's
``repr``, in UTF-8 or Latin-1, and in any case of its ASCII letters.

Two rules keep texts readable. A part of fewer than three characters is not removed by itself. A
username of letters only (``user``) stays in an answer that passes to the client, because it is most
likely a word of the target's; if there is no password, the username is the secret and is removed.
"""

import base64
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

Unescape = Callable[[re.Match[bytes]], bytes]
Fields = tuple[tuple[bytes, bytes], ...]
"""Header names and values as they are sent."""

_STARS: Final = b"***"
_LONGEST: Final = 4096
"""Bytes up to which a text is searched word by word. All flows wait for the search, so a longer
text that holds a secret is replaced whole."""
_MOST_FIELDS: Final = 1000
"""Header fields that are searched one by one. If a longer head holds a secret, all fields go."""
_NO_COINCIDENCE: Final = 8
"""The length from which a password within a header name is not there by coincidence."""
_LEAST_ALONE: Final = 3
_LEAST_CORE: Final = 8  # characters of Base64 that are not there by coincidence, in any case
_LEAST_CUT: Final = 4
_ESCAPE: Final = re.compile(
    rb"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\U(00(?:0[0-9A-Fa-f]|10)[0-9A-Fa-f]{4})"
)
_ALIKE: Final = bytes.maketrans(b"+-_", b"  /")  # a form's plus is a space; the URL alphabet
_RUN: Final = re.compile(rb"[a-z0-9/]+")
_WORD: Final = re.compile(rb"[^\s'\"]+")
_LAST_WORD: Final = re.compile(rb"[^\s'\"]+(['\"\s]*)\Z")


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret to find: its ``exact`` spellings, the longer first, and its ``plain`` forms.

    ``run`` is a Base64 text that is too short to be searched within other text.
    """

    exact: tuple[bytes, ...] = ()
    plain: tuple[bytes, ...] = ()
    run: bytes = b""

    def is_in(self, plain: bytes) -> bool:
        if any(form in plain for form in self.plain):
            return True
        return bool(self.run) and self.run in _RUN.findall(plain)

    def is_all_of(self, data: bytes) -> bool:
        return data in self.exact or _plain(data) in self.plain

    def is_cut_off_in(self, plain: bytes) -> bool:
        """Whether ``plain`` ends with the beginning of a form."""
        return any(
            plain.endswith(form[:length])
            for form in self.plain
            for length in range(_LEAST_CUT, len(form))
        )


class Redactor:
    """Redacts one account. A text that does not repeat it is returned unchanged.

    ``text`` is for sentences about a failure, ``head`` for an answer that passes to the client.
    """

    def __init__(self, username: str, password: str) -> None:
        self._pair, user, secret = _pair(username, password), _part(username), _part(password)
        self._all = (self._pair, secret, user)
        is_word = username.isalpha() and bool(password)
        self._head = self._all[:2] if is_word else self._all
        self._long = (secret,) if len(password) >= _NO_COINCIDENCE else ()

    def text(self, sentence: str) -> str:
        """Redact a sentence that quotes a peer, even if the quotation is cut off at its end."""
        octets = sentence.encode("utf-8", "backslashreplace")
        redacted = _without(octets, self._all)
        end = _plain(redacted).rstrip(b"'\" \t\r\n")
        if any(secret.is_cut_off_in(end) for secret in self._all):
            redacted = _LAST_WORD.sub(_STARS + rb"\1", redacted)
        return sentence if redacted == octets else redacted.decode("utf-8", "replace")

    def head(self, reason: bytes, fields: Fields) -> tuple[bytes, Fields]:
        """Redact the reason phrase and the headers, or trailers, of an answer."""
        if not _is_in(
            self._head, b"\n".join((reason, *(part for field in fields for part in field)))
        ):
            return reason, fields
        if len(fields) > _MOST_FIELDS:
            return _without(reason, self._head), ()
        return _without(reason, self._head), tuple(self._field(*field) for field in fields)

    def _field(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        # A short part within a name ("date") is most likely a coincidence; a whole name is not.
        if _is_in((self._pair, *self._long), name) or any(
            part.is_all_of(name) for part in self._head
        ):
            name = _STARS
        if name.lower() == b"content-length" and value.isdigit():
            return name, value  # the answer could not be read without it
        return name, _without(value, self._head)


def _pair(username: str, password: str) -> _Secret:
    if not username and not password:
        return _Secret()
    text = f"{username}:{password}"
    octets = text.encode("utf-8", "replace")
    padded = base64.b64encode(octets)
    token = padded.rstrip(b"=")
    plain = (*_plain_forms(text), *_cores(octets), *_cores(padded))
    if len(token) < _LEAST_CORE:
        return _Secret((octets,), plain, _plain(token))
    return _Secret((padded, token, octets), plain)


def _part(text: str) -> _Secret:
    if len(text) < _LEAST_ALONE:
        return _Secret()
    octets = text.encode("utf-8", "replace")
    return _Secret((octets,), (*_plain_forms(text), *_cores(octets)))


def _plain_forms(text: str) -> Iterator[bytes]:
    for encoding in ("utf-8", "latin-1"):  # we send the first; many peers read the second
        with contextlib.suppress(UnicodeEncodeError):
            octets = text.encode(encoding)
            # What looks like an escape may be literal text that was encoded as such.
            for plain in {_plain(octets), _alike(octets)}:
                if len(plain) >= _LEAST_ALONE:  # unescaping may have shortened it
                    yield plain


def _cores(octets: bytes) -> Iterator[bytes]:
    """What the Base64 of any text that holds ``octets`` contains, for each alignment."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + octets)
        core = encoded[(offset * 8 + 5) // 6 : (offset + len(octets)) * 8 // 6]
        if len(core) >= _LEAST_CORE:
            yield _plain(core)


def _octet(found: re.Match[bytes]) -> bytes:
    """Decode an escape from the ``repr`` of bytes, or of a text that holds bytes (PEP 383)."""
    code = int(found[1] or found[2] or found[3], 16)
    return bytes((code & 0xFF,)) if found[1] or 0xDC80 <= code <= 0xDCFF else _character(found)


def _character(found: re.Match[bytes]) -> bytes:
    """Decode an escape from the ``repr`` of a text."""
    return chr(int(found[1] or found[2] or found[3], 16)).encode("utf-8", "replace")


def _plain(data: bytes, unescape: Unescape = _octet) -> bytes:
    """The common form of all spellings: without escapes, in lower case."""
    if b"\\" in data:
        data = _ESCAPE.sub(unescape, data)
    if b"%" in data:
        data = unquote_to_bytes(unquote_to_bytes(data))
    return _alike(data)


def _alike(data: bytes) -> bytes:
    return data.translate(_ALIKE, b"\\").lower()


def _is_in(secrets: Iterable[_Secret], data: bytes) -> bool:
    readings = [_plain(data)]
    if b"\\x" in data:
        readings.append(_plain(data, _character))
    return any(
        any(map(secret.is_in, readings)) or any(spelling in data for spelling in secret.exact)
        for secret in secrets
    )


def _without(data: bytes, secrets: tuple[_Secret, ...]) -> bytes:
    if not _is_in(secrets, data):
        return data
    for secret in secrets:
        for spelling in secret.exact:
            data = data.replace(spelling, _STARS)
    if len(data) > _LONGEST:
        return _STARS if _is_in(secrets, data) else data
    data = _WORD.sub(lambda word: _STARS if _is_in(secrets, word[0]) else word[0], data)
    return _STARS if _is_in(secrets, data) else data
