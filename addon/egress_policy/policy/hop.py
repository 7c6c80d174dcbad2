"""How a hop is judged: the connection to a proxy, or to the target of a direct egress. Pure.

The tunnels of flows (``proxy/``) and the connections for tests of a proxy (``client/``) move bytes
by different means, and come to the same judgement here: in which order and for how long addresses
are tried, whether the peer is the one that was dialled, whether a request is forwarded or
tunnelled, and what a failure means.
"""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, Literal

from ..errors import Reason
from ..model.decision import Choice, Egress, Place, Refusal, Route
from ..model.family import FamilyNumber
from ..model.host import canonical_ip, detect_ip_literal_family
from ..sentence import Sentence
from .fault import JUDGEMENTS, Cause, Judgement, of_connect_status, of_errno, of_socks_reply

# -- limits: addresses are tried as RFC 8305 ("Happy Eyeballs") says in sections 4 and 5. Each
# attempt begins a moment after the one before, or as soon as that has failed. The first address
# that answers is used, and the other attempts are given up.

STAGGER = 0.25
"""Seconds from one attempt to the next while none has answered."""
AT_ONCE = 3
"""Attempts at the same time: each needs a file descriptor, of which a process has few."""
ADDRESS_TIMEOUT = 5.0
"""Seconds that one address may take to accept the connection."""
CONNECT_TIMEOUT = 15.0
"""Seconds within which attempts are started, and all of them end."""
HANDSHAKE_TIMEOUT = 10.0
"""Seconds from the accepted connection to the end of the proxy's handshake, TLS included."""
FAILOVER_BUDGET = 20.0
"""Seconds for all members of a pool that are tried for one connection."""
LEAST_TIME = 0.5
"""With fewer seconds left of the budget no other member is tried."""


def connect_limit(choice: Choice, now: float) -> float:
    """The seconds for all addresses of an egress. ``now`` is on the monotonic clock.

    A member that is not the last gets less: another one may answer.
    """
    return _within(choice, now, CONNECT_TIMEOUT if choice.is_last else ADDRESS_TIMEOUT)


def handshake_limit(choice: Choice, now: float) -> float:
    """The seconds for the handshake of a proxy, from ``now`` on."""
    return _within(choice, now, HANDSHAKE_TIMEOUT)


def _within(choice: Choice, now: float, limit: float) -> float:
    """``limit``, but not beyond the budget of the choice. Never so short that nothing happens."""
    return limit if choice.deadline is None else max(0.1, min(limit, choice.deadline - now))


def interleave(addresses: Iterable[str]) -> tuple[str, ...]:
    """IP literals with their families in turns, beginning with that of the first. Each family
    keeps its order, and repetitions are dropped."""
    families: dict[int | None, list[str]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(detect_ip_literal_family(address), []).append(address)
    turns = zip_longest(*families.values())
    return tuple(address for turn in turns for address in turn if address is not None)


# -- failures


@dataclass(frozen=True, slots=True)
class HopFailure:
    """Why a hop cannot be used. ``what`` is a clause for people, free of credentials."""

    reason: Reason
    what: str
    cause: Cause = Cause.BROKEN
    retry_after: float | None = None
    """In how many seconds the proxy wants to be asked again."""

    @property
    def judgement(self) -> Judgement:
        return JUDGEMENTS[self.cause]

    def of(self, egress: Egress) -> str:
        """The failure as a sentence, without full stop, that names the proxy if there is one."""
        if egress.proxy:
            return Sentence("of_proxy", "Proxy {name}: {what}", name=egress.name, what=self.what)
        return self.what[:1].upper() + self.what[1:]

    def refusal(self, route: Route, then: str = "") -> Refusal:
        """The refusal of what was to take a route. ``then`` is appended to the sentence."""
        return self.refusal_of(route.egress, route.hop[0], route.choice.rule, then)

    def refusal_of(self, egress: Egress, host: str, rule: str, then: str = "") -> Refusal:
        """The refusal of what was to leave by an egress, whose hop is ``host``."""
        judged, said = self.judgement, self.of(egress)
        # What a direct connection leads to is its target.
        fault = "target" if egress.proxy is None and judged.fault == "proxy" else judged.fault
        return Refusal(
            self.reason,
            said + then if then else said,  # an addition leaves no ``Sentence``
            egress.name,
            egress.family,
            host,
            rule,
            fault,
            judged.fails_over,
            self.retry_after,
        )


Step = Literal["dial", "attempt"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a dial to one address on a route, or of a whole attempt to open a tunnel on it.

    ``address`` is the IP literal that was dialled last. ``began`` and ``ended`` are seconds on the
    monotonic clock. ``hop`` is what the proxy cost in seconds whatever the target is: connecting,
    TLS and the greeting; ``None`` where it did not come so far.
    """

    step: Step
    address: str
    failure: HopFailure | None = None
    began: float = 0.0
    ended: float = 0.0
    hop: float | None = None


OUT_OF_DESCRIPTORS: Final = HopFailure(
    Reason.ERROR,
    Sentence(
        "hop_descriptors",
        "this process has no file descriptor left for a connection (Too many open files): "
        "raise its limit (ulimit -n)",
    ),
    Cause.OWN,
)
"""An attempt at another address would fail as well."""
LEFT: Final = HopFailure(
    Reason.ERROR,
    Sentence("hop_left", "the attempt was ended before it could succeed"),
    Cause.NOBODY,
)
"""The client went away, or the policy changed."""
UNANSWERED: Final = HopFailure(
    Reason.HANDSHAKE_FAILED,
    Sentence("hop_unanswered", "it closed the connection without an answer to the request"),
    Cause.UNDECIDED,
)
"""A proxy was asked for a request in absolute form. Some close just as the target did."""
FULL: Final = HopFailure(
    Reason.LIMIT_REACHED, Sentence("hop_full", "it has as many connections as it may"), Cause.FULL
)
_WANTS_OTHERS: Final = Sentence("hop_credentials", "it wants other credentials (407)")
_ERRORS: Final = {
    errno.ECONNREFUSED: Sentence("errno_refused", "Connection refused"),
    errno.ECONNRESET: Sentence("errno_reset", "Connection reset by peer"),
    errno.EHOSTUNREACH: Sentence("errno_host", "No route to host"),
    errno.ENETUNREACH: Sentence("errno_network", "Network is unreachable"),
    errno.ETIMEDOUT: Sentence("errno_timeout", "Connection timed out"),
}
"""The errors that a connection ends with most, in the system's words."""
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE})


def lacks_descriptor(number: int | None) -> bool:
    """Whether an error of the system says that this process has no descriptor left."""
    return number in _SHORTAGES


def unconnected(address: str, port: int, number: int | None, text: str) -> HopFailure:
    """An attempt to connect failed with the error ``number`` of the system.

    ``text`` says what failed where there is no such number.
    """
    if lacks_descriptor(number):
        return OUT_OF_DESCRIPTORS
    if number == errno.ENOTCONN:  # it stood, and was gone before it could be looked at
        number = errno.ECONNRESET
    reason = Reason.CONNECT_TIMEOUT if number == errno.ETIMEDOUT else Reason.CONNECT_REFUSED
    why = (_ERRORS.get(number) or os.strerror(number)) if number else text
    failed = "cannot connect to {address} port {port}: {why}"
    what = Sentence("hop_unconnected", failed, address=address, port=str(port), why=why)
    return HopFailure(reason, what, of_errno(number))


def unanswered(address: str, port: int, seconds: float) -> HopFailure:
    """An attempt to connect was given up after this time."""
    what = Sentence(
        "hop_no_answer",
        "no answer from {address} port {port} within {seconds} s",
        address=address,
        port=str(port),
        seconds=f"{seconds:.3g}",
    )
    return HopFailure(Reason.CONNECT_TIMEOUT, what, Cause.NO_ANSWER)


def broken(what: str, cause: Cause = Cause.BROKEN, retry_after: float | None = None) -> HopFailure:
    """The handshake failed, or what was to come through the hop did not."""
    reason = Reason.PROXY_AUTH if cause is Cause.CREDENTIALS else Reason.HANDSHAKE_FAILED
    return HopFailure(reason, what, cause, retry_after)


def answered_connect(
    what: str, status: int, retry_after: float | None = None, error: str = ""
) -> HopFailure:
    """CONNECT was answered with this status, 0 for something else than an answer. ``error`` is the
    error type in Proxy-Status."""
    cause = of_connect_status(status, pause=retry_after is not None, error=error)
    return broken(what, cause, retry_after)


def answered_socks(what: str, reply: int | None, auth: bool) -> HopFailure:
    """SOCKS failed: by this reply to the request, or ``None`` before it. ``auth``: credentials are
    the cause, missing or wrong."""
    if auth:
        return broken(what, Cause.CREDENTIALS)
    return broken(what, Cause.BROKEN if reply is None else of_socks_reply(reply))


def ended(asked: bool) -> HopFailure:
    """The proxy closed the connection before its answer was complete.

    ``asked``: it had been asked for the target. Some proxies close where they cannot reach it.
    """
    cause = Cause.UNDECIDED if asked else Cause.BROKEN
    return broken(Sentence("hop_ended", "it closed the connection in the handshake"), cause)


def silent(seconds: float, hint: str, asked: bool = False) -> HopFailure:
    """The handshake did not come to its end in time. ``hint`` is a clause about the cause.

    ``asked``: the proxy had been asked for the target, which may be what is silent.
    """
    endless = "no end of the handshake in {seconds} s{hint}"
    what = Sentence("hop_endless", endless, seconds=f"{seconds:.3g}", hint=hint)
    return broken(what, Cause.UNDECIDED if asked else Cause.SILENT)


def of_refusal(refusal: Refusal) -> HopFailure:
    """The failure of a hop that was not spoken to: the refusal is none of the proxy's doing."""
    cause = Cause.OWN if refusal.fault == "own" else Cause.NOBODY
    return HopFailure(refusal.reason, refusal.detail, cause)


def declined(status: int, *, by_stranger: bool = False) -> HopFailure | None:
    """Why the status of the answer to a forwarded request is the proxy's own word.

    A 407 concerns its credentials, which only this process knows. Any other status may be the
    target's. ``by_stranger``: the target is anybody's, who may answer 407 to harm the proxy. So the
    failure is undecided.
    """
    if status != 407:
        return None
    cause = Cause.UNDECIDED if by_stranger else Cause.CREDENTIALS
    return HopFailure(Reason.PROXY_AUTH, _WANTS_OTHERS, cause)


# -- the peer


def peer_family(address: str) -> Literal["ipv4", "ipv6"]:
    """The family that the packets to an IP literal have."""
    return "ipv4" if detect_ip_literal_family(address) == 4 else "ipv6"


def wrong_peer(dialled: str, peer: str, family: FamilyNumber | None) -> HopFailure | None:
    """Why a connection to ``peer`` must not be used where ``dialled`` was meant.

    An IP literal leads to that very address, in the pinned ``family`` if there is one. A host name
    leads to whatever the system finds for it: then the family alone counts.
    """
    actual, meant = plain_address(peer), plain_address(dialled)
    in_family = family in (None, detect_ip_literal_family(actual))
    if in_family and (actual == meant or canonical_ip(meant) is None):
        return None
    other = "connected to {actual} where {pinned} was pinned"
    what = Sentence("hop_other_peer", other, actual=actual, pinned=meant)
    return HopFailure(Reason.PEER_MISMATCH, what, Cause.NOBODY)


def loop_back(route: Route, peer: Place, local: str) -> Refusal | None:
    """Why a connection from the address ``local`` to ``peer`` must not be used: it has reached this
    process, or the exit there would be asked for it."""
    return route.loop_back((plain_address(peer[0]), peer[1]), plain_address(local))


def plain_address(address: str) -> str:
    """The canonical form without the scope id, which the system leaves out of a peer's address."""
    plain = address.partition("%")[0]
    return canonical_ip(plain) or plain


# -- the request


def is_forwarded(
    egress: Egress,
    scheme: str,
    host: str,
    *,
    method: str = "GET",
    path: str = "/",
    version: str = "HTTP/1.1",
    upgrade: str = "",
) -> bool:
    """Whether the proxy is asked for a request in absolute form (RFC 9112 section 3.2.2).

    Otherwise the request goes through a tunnel, as it does where the proxy is to be asked for a
    literal of ``target_family``: a forwarded request names its target once, and the literal would
    replace the name. ``upgrade`` is the value of that header.
    """
    proxy = egress.proxy
    return (
        proxy is not None
        and proxy.type != "socks5"
        and proxy.plain_http == "forward"
        and scheme == "http"
        and egress.target_family is None
        # An ordinary HTTP hop knows no other version, and no upgrade but to HTTP/2.
        and version.startswith("HTTP/1")
        and upgrade.lower() in ("", "h2c")
        # Who answers TRACE repeats the request with the proxy's credentials in it (RFC 9110
        # section 9.3.8), and the proxy may be who answers.
        and method.upper() != "TRACE"
        # The proxy must find the host that was decided about in the URL, and no other. A scope id
        # means nothing to a proxy, which might leave it out.
        and "%" not in host
        and (path.startswith("/") or path == "*")
    )
