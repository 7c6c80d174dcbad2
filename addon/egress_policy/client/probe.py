"""The test of a proxy: one request through its pinned hop, each step timed."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ..model.decision import Refusal, Route
from ..model.target_url import TargetUrl
from ..policy.fault import Cause
from ..policy.hop import (
    ADDRESS_TIMEOUT,
    CONNECT_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    HopFailure,
    broken,
    declined,
    is_forwarded,
    peer_family,
)
from ..sentence import Sentence
from ..wire.redact import Redactor
from .dial import OnDial, Refused, dial, peer_of, refused, unheeded
from .egress_ip import find_egress_ip
from .exchange import HttpExchange, HttpRequest, NoHttpAnswer
from .stream import SocketStream, Stream, TlsOf, TlsStream, without_tls
from .timing import Stopwatch
from .tunnel import open_tunnel, start_tls

_READ_LIMIT: Final = 65536
_GOOD: Final = range(200, 300)
_HEADERS: Final = (
    ("user-agent", "egress-policy"),
    ("accept", "application/json, text/plain;q=0.9, */*;q=0.1"),
)


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """Seconds: for one address to accept, for the handshake with the proxy, for the answer of the
    target, for all addresses together. All but the third are those of flows, which wait for the
    target for as long as it takes."""

    address: float = ADDRESS_TIMEOUT
    handshake: float = HANDSHAKE_TIMEOUT
    answer: float = 15.0
    connect: float = CONNECT_TIMEOUT


STANDARD: Final = ProbeLimits()
Reader = Callable[[bytes], str | None]
"""Finds in the body of an answer the address that the target saw."""


def _undecided(what: str) -> HopFailure:
    """A failure behind the hop. Tests ask one target through many proxies, so comparing them tells
    which of both failed."""
    return broken(what, Cause.UNDECIDED)


@dataclass(slots=True)
class ProbeResult:
    """How it went. Times are in milliseconds, ``None`` for what was not reached.

    ``connect_ms`` counts all addresses tried, ``handshake_ms`` TLS to the proxy too, and
    ``first_byte_ms`` TLS to the target. ``hop_ms`` is what the proxy costs whatever the target is:
    connecting, TLS and the greeting. Without ``refusal`` the target answered, with ``status``;
    ``failure`` says more about one that the network caused.
    """

    address: str | None = None
    peer_family: Literal["ipv4", "ipv6"] | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    handshake_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float = 0.0
    status: int | None = None
    egress_ip: str | None = None
    refusal: Refusal | None = None
    hop_ms: float | None = None
    failure: HopFailure | None = None


async def probe(
    route: Route,
    url: TargetUrl,
    tls: TlsOf = without_tls,
    limits: ProbeLimits = STANDARD,
    clock: Callable[[], float] = time.perf_counter,
    on_dial: OnDial = unheeded,
    read: Reader = find_egress_ip,
) -> ProbeResult:
    """Ask for ``url`` by ``route``, which has a proxy.

    ``tls`` is for an https proxy and for an https target, ``on_dial`` as for ``dial``, and a good
    answer is ``read``. Raises nothing for what the network does.
    """
    test = _Test(route, url, tls, limits, Stopwatch(clock), on_dial, read)
    try:
        await test.run()
    except Refused as error:
        test.result.refusal, test.result.failure = error.refusal, error.failure
    test.result.total_ms = test.watch.total()
    return test.result


class _Test:
    def __init__(
        self,
        route: Route,
        url: TargetUrl,
        tls: TlsOf,
        limits: ProbeLimits,
        watch: Stopwatch,
        on_dial: OnDial,
        read: Reader,
    ) -> None:
        self.on_dial = on_dial
        self.route, self.url, self.tls, self.limits, self.watch = route, url, tls, limits, watch
        self.read = read
        self.result = ProbeResult(dns_ms=route.pin.dns_ms)
        self.forwards = is_forwarded(route.egress, url.scheme, url.host, path=url.path)

    async def run(self) -> None:
        route, limits, result = self.route, self.limits, self.result
        dialled = dial(route, limits.address, limits.connect, on_dial=self.on_dial)
        with await dialled as sock:
            result.connect_ms = self.watch.lap()
            result.address = peer_of(route, sock)
            result.peer_family = peer_family(result.address)
            stream = await open_tunnel(
                route,
                SocketStream(sock),
                self.tls,
                self.forwards,
                limits.handshake,
                self._note_greeted,
            )
            result.handshake_ms = self.watch.lap()
            try:
                async with asyncio.timeout(limits.answer):
                    await self._ask(stream)
            except TimeoutError as error:
                if result.status is None:
                    late = "no answer came through it within {seconds} s"
                    why = Sentence("no_answer_within", late, seconds=f"{limits.answer:g}")
                    raise refused(route, _undecided(why)) from error

    async def _ask(self, stream: Stream) -> None:
        route, url = self.route, self.url
        if url.is_tls:
            stream = await start_tls(route, TlsStream(stream, self.tls, url.host), "the target")
        exchange = HttpExchange(
            stream, route.proxy if self.forwards else None, self._note_first_byte
        )
        try:
            status = (await exchange.ask(HttpRequest(url, headers=_HEADERS))).status_code
        except NoHttpAnswer as error:
            redactor = Redactor(route.proxy.username, route.proxy.password.get_secret_value())
            raise refused(route, _undecided(redactor.text(error.text))) from error
        if self.forwards and status >= 400:  # whether proxy or target says so cannot be told
            why = Sentence("answer_was", "the answer was {status}", status=str(status))
            raise refused(route, declined(status) or _undecided(why))
        self.result.status = status
        if status not in _GOOD:  # a page of errors may name any address
            return
        with contextlib.suppress(NoHttpAnswer):
            self.result.egress_ip = self.read(await exchange.body(_READ_LIMIT))

    def _note_greeted(self) -> None:
        self.result.hop_ms = self.watch.total()

    def _note_first_byte(self) -> None:
        self.result.first_byte_ms = self.watch.lap()
