"""Who may ask: the bearer token, page sessions, one-time links, and where a request comes from.

The page gets the key of its session in the answer to its login, and sends it to no other server.
Times are seconds of a clock that is given.
"""

import hashlib
import hmac
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from ..management.session_file import SessionFile
from ..model.host import canonical_ip
from ..sentence import Sentence
from .problems import Problem
from .sessions import PageSession, Sessions

KEY_HEADER: Final = "X-Egress-Session-Key"
LINK_LIFE: Final = 60.0
SHOWN_LINK_LIFE: Final = 15 * 60.0
"""Seconds: a one-time link that a browser is sent to, and one that a person is shown."""
LINKS: Final = 16
"""One-time links at most; a further one takes the place of the oldest."""

_PEERS: Final = 1024
_FREE_FAILURES: Final = 5
_LONGEST_WAIT: Final = 60.0
_SAFE: Final = frozenset({"GET", "HEAD"})


def cookie_name(port: int) -> str:
    """The cookie for sessions of the listener at a port: each listener of a host has its own."""
    return f"egress_session_{port}"


class Gate:
    """``port`` is that of the listener, ``hosts`` are the legal values of ``Host``, in lower case.
    With ``any_at`` any IP literal with this port is legal too: a listener on all addresses has
    many, and no other site can have an IP literal for a name.

    A wrong token costs its sender a wait that doubles with each further one. The right one is
    always accepted: all programs on this machine share an address, and none shall lock out others.
    ``sessions`` is the file that keeps the page's sessions across restarts.
    """

    def __init__(
        self,
        token: str,
        port: int,
        hosts: Iterable[str],
        clock: Callable[[], float],
        any_at: int | None = None,
        sessions: SessionFile | None = None,
    ) -> None:
        self.cookie = cookie_name(port)
        self._any_at = any_at
        self._token = _digest(token)
        self._hosts = frozenset(hosts)
        self._clock = clock
        self._sessions = Sessions(token, clock, sessions)
        self._links: OrderedDict[bytes, tuple[float, Callable[[], None]]] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def require_host(self, host: str) -> None:
        """Raises ``Problem`` 421 for the name of another site that resolves to this listener."""
        name, _, port = host.rpartition(":")
        literal = self._any_at is not None and port == str(self._any_at) and canonical_ip(name)
        if host.lower() not in self._hosts and not literal:
            raise Problem(
                421, "MISDIRECTED", Sentence("host_unserved", "This host name is not served here")
            )

    def require_same_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Raises ``Problem`` 403 for what another site's page sends."""
        if method in _SAFE:
            return
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        own = f"http://{headers.get('Host', '')}".lower()
        foreign = origin is not None and origin.lower() != own
        if foreign or site not in (None, "same-origin", "none"):
            raise Problem(
                403, "FORBIDDEN", Sentence("other_site", "Requests of other sites are not taken")
            )

    def require_access(self, headers: Mapping[str, str], peer: str) -> None:
        """Raises ``Problem`` 401, or 429 after several wrong tokens."""
        authorization = headers.get("Authorization")
        if authorization is None:
            if self._sessions.use(_cookies(headers, self.cookie), headers.get(KEY_HEADER, "")):
                return
            needed = "A bearer token, or a session of the page, is required"
            raise _unauthenticated(Sentence("access_needed", needed))
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthenticated(Sentence("bearer_expected", "A bearer token is expected"))
        self.require_token(token.strip(), peer)

    def require_token(self, token: str, peer: str) -> None:
        if hmac.compare_digest(_digest(token), self._token):
            self._failures.pop(peer, None)
            return
        self._fail(peer)

    def open_session(self, headers: Mapping[str, str]) -> PageSession:
        """The session that the request's cookie names, for a further tab, or a new session."""
        return self._sessions.open(_cookies(headers, self.cookie))

    def close_session(self, headers: Mapping[str, str]) -> None:
        self._sessions.close(_cookies(headers, self.cookie))

    def make_link(self, life: float = LINK_LIFE, used: Callable[[], None] = lambda: None) -> str:
        """A word that opens one session, once and within ``life`` seconds; ``used`` is called when
        it does."""
        word = secrets.token_urlsafe(32)
        self._links[_digest(word)] = (self._clock() + life, used)
        while len(self._links) > LINKS:
            self._links.popitem(last=False)
        return word

    def redeem_link(self, word: str, peer: str) -> None:
        """Raises ``Problem`` 401 for a word that was used, is too old or never existed."""
        until, used = self._links.pop(_digest(word), (-math.inf, None))
        if used is None or until <= self._clock():
            self._fail(peer)
        else:
            used()

    def _fail(self, peer: str) -> None:
        now = self._clock()
        count, until = self._failures.pop(peer, (0, 0.0))
        wait = min(_LONGEST_WAIT, 2.0 ** (count - _FREE_FAILURES)) if count >= _FREE_FAILURES else 0
        self._failures[peer] = (count + 1, max(until, now + wait))
        while len(self._failures) > _PEERS:
            self._failures.popitem(last=False)
        if until > now:
            left = {"Retry-After": str(math.ceil(until - now))}
            many = Sentence("too_many_tokens", "Too many wrong tokens; wait")
            raise Problem(429, "TOO_MANY_ATTEMPTS", many, left)
        raise _unauthenticated(Sentence("token_wrong", "This token is not the right one"))


def _cookies(headers: Mapping[str, str], name: str) -> Iterator[str]:
    """The values of all cookies of that name."""
    for pair in headers.get("Cookie", "").split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            yield value


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _unauthenticated(detail: str) -> Problem:
    return Problem(401, "UNAUTHENTICATED", detail, {"WWW-Authenticate": "Bearer"})
