"""Greets proxies and asks for URLs through them, each by its pinned hop.

Tests by people and checks by the scheduler do it here, so that both find what live flows would.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..client.dial import OnDial, unheeded
from ..client.egress_ip import find_egress_ip
from ..client.greeting import greeting
from ..client.probe import STANDARD, ProbeLimits, ProbeResult, Reader, probe
from ..client.stream import TlsOf
from ..errors import Reason
from ..model.decision import Choice, Egress, Place, Refusal
from ..model.proxy import Proxy
from ..model.target_url import TargetUrl
from ..policy.hop import HopFailure, Outcome, of_refusal
from ..sentence import Sentence
from .in_force import PolicyInForce

Report = Callable[[Egress, Place, str, Outcome], None]
"""Takes in what came of a dial or an attempt: the egress, the target that was asked for (the hop
itself where the proxy was greeted), and the pool, which is empty for a test by a person."""

OnSeen = Callable[[Proxy, str, bool], None]
"""Is told that a target which was asked through a proxy answered with the address that it saw, and
whether its certificate was checked: otherwise the proxy may have answered."""


def _nobody(*_: object) -> None:
    """Is told and does nothing."""


def default_tls(_name: str) -> ssl.SSLContext:
    """The system's certificate authorities and HTTP/1.1, for any name."""
    return _system_tls()


@functools.cache
def _system_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Unready(Exception):
    """Nothing was sent, because of ``refusal``."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Prober:
    """``tls`` gives the settings for an https proxy or target and is called in a thread. ``clock``
    is the one of outcomes."""

    in_force: PolicyInForce
    tls: TlsOf = default_tls
    limits: ProbeLimits = STANDARD
    clock: Callable[[], float] = time.monotonic
    on_seen: OnSeen = _nobody

    async def greet(self, egress: Egress, on_dial: OnDial = unheeded) -> Outcome:
        """Go as far as the greeting of a proxy. ``on_dial`` is told what came of each address.
        Raises nothing for what the network does."""
        proxy, began = proxy_of(egress), self.clock()
        try:
            self._check_type(proxy)
            route = _ready(await self.in_force.router.prepare_hop(proxy))
            tls = await self._tls_for(proxy, [proxy.host] * (proxy.type == "https"))
        except _Unready as error:
            failure = of_refusal(error.refusal)
            return Outcome("attempt", "", failure, began, self.clock())
        return await greeting(route, tls, self.limits, self.clock, on_dial)

    async def probe(
        self,
        egress: Egress,
        url: TargetUrl,
        on_dial: OnDial = unheeded,
        read: Reader = find_egress_ip,
    ) -> ProbeResult:
        """Ask for a URL by an egress with a proxy, and ``read`` the address in a good answer.
        ``on_dial`` is told what came of each address of the proxy.
        Raises nothing for what the network does."""
        proxy, began = proxy_of(egress), self.clock()
        try:
            self._check_type(proxy)
            route = _ready(
                await self.in_force.router.prepare(Choice(egress), url.host, url.port, "tcp")
            )
            names = [proxy.host] * (proxy.type == "https") + [url.host] * url.is_tls
            tls = await self._tls_for(proxy, names)
        except _Unready as error:
            ms = (self.clock() - began) * 1000
            refusal = error.refusal
            return ProbeResult(refusal=refusal, total_ms=ms, failure=of_refusal(refusal))
        result = await probe(route, url, tls, self.limits, on_dial=on_dial, read=read)
        result.total_ms += route.pin.dns_ms or 0.0
        if result.egress_ip:
            checked = url.is_tls and tls(url.host).verify_mode is ssl.CERT_REQUIRED
            self.on_seen(proxy, result.egress_ip, checked)
        return result

    def _check_type(self, proxy: Proxy) -> None:
        if proxy.type == "socks5" and not self.in_force.socks5:
            off = Sentence("socks5_is_off", "socks5 is switched off")
            raise _Unready(refusal_of(proxy, Reason.SOCKS5_DISABLED, off))

    async def _tls_for(self, proxy: Proxy, names: list[str]) -> TlsOf:
        try:
            return {name: await asyncio.to_thread(self.tls, name) for name in names}.__getitem__
        except (OSError, ValueError) as error:
            raise _Unready(refusal_of(proxy, Reason.ERROR, str(error))) from error


def proxy_of(egress: Egress) -> Proxy:
    """The proxy of an egress that has one."""
    if egress.proxy is None:
        raise ValueError("a direct egress has no proxy")
    return egress.proxy


def refusal_of(proxy: Proxy, reason: Reason, what: str) -> Refusal:
    """The refusal of a probe. ``what`` is a clause about the cause."""
    detail = Sentence("of_proxy", "Proxy {name}: {what}", name=proxy.name, what=what)
    return Refusal(reason, detail, proxy.name, proxy.family, proxy.host)


def outcome_of(
    result: ProbeResult, began: float, ended: float, failure: HopFailure | None = None
) -> Outcome:
    """What a probe says about its proxy. ``failure`` takes the place of its own."""
    hop = None if result.hop_ms is None else result.hop_ms / 1000
    return Outcome("attempt", result.address or "", failure or result.failure, began, ended, hop)


def _ready[T](route: T | Refusal) -> T:
    if isinstance(route, Refusal):
        raise _Unready(route)
    return route
