"""The page's sessions: who has one, and until when.

A browser sends its cookies to every port of a host, so other programs of this machine may see the
cookie of a session. It opens nothing alone: each request has to name the session's key as well.
"""

import hmac
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ..management.session_file import SessionFile, StoredSession

SESSION_IDLE: Final = 8 * 3600.0
SESSION_LIFE: Final = 24 * 3600.0
"""Seconds: a session unused, a session at all."""
SAVE_AFTER: Final = 300.0
"""Seconds: how much of its use a session may lose in a restart."""

_SESSIONS: Final = 64


@dataclass(frozen=True, slots=True)
class PageSession:
    """``value`` is the cookie's; ``key`` is known to the page alone."""

    value: str
    key: str


class Sessions:
    """Sessions that were opened under one token, kept in ``file`` where there is one.

    ``clock`` gives seconds and is never set. Under another token no session is good.
    """

    def __init__(
        self, token: str, clock: Callable[[], float], file: SessionFile | None = None
    ) -> None:
        salt = file.salt if file else secrets.token_bytes(32)
        self._secret = hmac.digest(salt, _bytes(token), "sha256")
        self._clock, self._file = clock, file
        self._saved, now = -math.inf, clock()
        stored = file.load() if file else ()
        self._times = OrderedDict((one.digest, (now - one.age, now - one.idle)) for one in stored)

    def open(self, cookies: Iterable[str]) -> PageSession:
        """The session that a cookie names, for a further tab, or a new session."""
        value, now = self._find(cookies) or secrets.token_urlsafe(32), self._clock()
        self._times[self._digest(value)] = (now, now)
        self._times.move_to_end(self._digest(value))
        while len(self._times) > _SESSIONS:
            self._times.popitem(last=False)
        self._save(now)
        return PageSession(value, self._key(value))

    def close(self, cookies: Iterable[str]) -> None:
        if self._times.pop(self._digest(self._find(cookies)), None):
            self._save(self._clock())

    def use(self, cookies: Iterable[str], key: str) -> bool:
        """Whether a cookie names a session and the key is that session's; if so, the session is
        used now."""
        value = self._find(cookies)
        if not value or not hmac.compare_digest(_bytes(key), _bytes(self._key(value))):
            return False
        digest, now = self._digest(value), self._clock()
        self._times[digest] = (self._times[digest][0], now)
        if now - self._saved >= SAVE_AFTER:
            self._save(now)
        return True

    def _find(self, cookies: Iterable[str]) -> str:
        """The first cookie that names a session, else an empty text. Other programs of this machine
        may have set more cookies of that name."""
        now = self._clock()
        for value in cookies:
            if (times := self._times.get(self._digest(value))) is None:
                continue
            made, used = times
            if now - made <= SESSION_LIFE and now - used <= SESSION_IDLE:
                return value
            del self._times[self._digest(value)]
        return ""

    def _save(self, now: float) -> None:
        self._saved = now
        if self._file:
            self._file.save(
                StoredSession(digest, now - made, now - used)
                for digest, (made, used) in self._times.items()
            )

    def _digest(self, value: str) -> str:
        return hmac.digest(self._secret, b"session " + _bytes(value), "sha256").hex()

    def _key(self, value: str) -> str:
        return hmac.digest(self._secret, b"key " + _bytes(value), "sha256").hex()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
