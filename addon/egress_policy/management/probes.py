"""Tests of proxies on demand, and how each fared last.

The URL that is asked for through a proxy is a setting. The caller of a test cannot choose it.
"""

import asyncio
import functools
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from ..client.probe import STANDARD, ProbeLimits, ProbeResult, probe
from ..client.stream import TlsOf
from ..errors import InvalidEntry, NotFound, Reason
from ..log import get_logger
from ..model.decision import Choice, Egress, Refusal
from ..model.family import parse_proxy_family
from ..model.proxy import Proxy
from ..model.rule import Policy
from ..model.target_url import parse_test_url
from ..model.words import iso_time
from .in_force import PolicyInForce
from .merge import STATED_TWICE
from .test_result import TestResult
from .views import FILE_ID

logger = get_logger(__name__)

DEFAULT_URL: Final = "https://api64.ipify.org/"
"""The URL to ask for where the registry has no ``test_url``. It answers with the client's address.
"""
AT_ONCE: Final = 10
"""How many tests run at a time; further ones wait."""
REMEMBERED: Final = 20_000
_MEASURED: Final = tuple(
    one.name for one in fields(ProbeResult) if one.name in TestResult.model_fields
)


def default_tls(_name: str) -> ssl.SSLContext:
    """The system's certificate authorities and HTTP/1.1, for any name."""
    return _system_tls()


@functools.cache
def _system_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True, slots=True)
class _Unusable:
    """An entry of the registry that makes no proxy."""

    name: str
    family: object
    problem: str


@dataclass(frozen=True, slots=True)
class _Running:
    key: str
    task: asyncio.Task[TestResult]


class Probes:
    """Tests proxies, each once at a time: callers that come meanwhile get the same result.

    ``tls`` gives the settings for an https proxy or target and is called in a thread. ``clock``
    says when a test was made.
    """

    def __init__(
        self,
        in_force: PolicyInForce,
        tls: TlsOf = default_tls,
        limits: ProbeLimits = STANDARD,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._in_force = in_force
        self._tls = tls
        self._limits = limits
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._running: dict[str, _Running] = {}
        self._last: OrderedDict[str, tuple[str, TestResult]] = OrderedDict()

    async def test(self, key: str) -> TestResult:
        """Test a proxy of file or registry by id or name, active or not.

        Raises ``NotFound``. Anything else that is wrong gives a result that is not ``ok``.
        """
        found = self._find(key)
        if isinstance(found, _Unusable):
            return self._unusable(found)
        egress = Egress(found, found.family, found.target_family)
        while (running := self._running.get(found.name)) and running.key != egress.key:
            await asyncio.wait({running.task})  # it tests the proxy as it was before an edit
        task = running.task if running else self._start(found, egress)
        await asyncio.wait({task})  # goes on for others if this caller is cancelled
        if task.cancelled():
            return self._result(found, self._refused(found, Reason.ERROR, "the test was ended"))
        return task.result()

    def last(self, name: str) -> TestResult | None:
        """How the proxy of this name fared last, unless it was changed since."""
        if name not in self._last:
            return None
        key, result = self._last[name]
        proxy = self._in_force.snapshot.proxies.get(name)
        unchanged = proxy and Egress(proxy, proxy.family, proxy.target_family).key == key
        return result if unchanged else None

    async def aclose(self) -> None:
        """End the tests that run."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what is tested

    def _find(self, key: str) -> Proxy | _Unusable:
        file = {proxy.name: proxy for proxy in (self._in_force.file or Policy()).proxies}
        if key.startswith(FILE_ID) and key.removeprefix(FILE_ID) in file:
            return file[key.removeprefix(FILE_ID)]
        state = self._in_force.state
        for stored in state.proxies if state else ():
            if key != stored.id and (key != stored.name or key in file):
                continue
            problem = STATED_TWICE if stored.name in file else stored.problem
            if stored.proxy and not problem:
                return stored.proxy
            return _Unusable(stored.name, stored.raw.get("family"), problem)
        if key in file:
            return file[key]
        raise NotFound("There is no such proxy")

    # -- testing

    def _start(self, proxy: Proxy, egress: Egress) -> asyncio.Task[TestResult]:
        task = asyncio.create_task(self._test(proxy, egress), name=f"egress test {proxy.name}")
        self._running[proxy.name] = _Running(egress.key, task)
        task.add_done_callback(lambda _: self._ended(proxy.name))
        return task

    def _ended(self, name: str) -> None:
        del self._running[name]

    async def _test(self, proxy: Proxy, egress: Egress) -> TestResult:
        async with self._slots:
            try:
                outcome = await self._probe(proxy, egress)
            except Exception:
                logger.exception(f"Egress: the test of proxy {proxy.name} went wrong")
                outcome = self._refused(proxy, Reason.ERROR, "the test went wrong; see the log")
        result = self._result(proxy, outcome)
        self._last[proxy.name] = egress.key, result
        self._last.move_to_end(proxy.name)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return result

    async def _probe(self, proxy: Proxy, egress: Egress) -> ProbeResult:
        in_force, began = self._in_force, time.perf_counter()
        setting = in_force.state.settings.get("test_url") if in_force.state else None
        try:
            url = parse_test_url(setting or DEFAULT_URL)
        except InvalidEntry as error:  # edited by hand
            return self._refused(proxy, Reason.ERROR, f"the setting test_url: {error}")
        if proxy.type == "socks5" and not in_force.socks5:
            return self._refused(proxy, Reason.SOCKS5_DISABLED, "socks5 is switched off")
        route = await in_force.router.prepare(Choice(egress), url.host, url.port, "tcp")
        if isinstance(route, Refusal):
            return ProbeResult(refusal=route, total_ms=(time.perf_counter() - began) * 1000)
        names = [proxy.host] * (proxy.type == "https") + [url.host] * url.is_tls
        try:
            tls = {name: await asyncio.to_thread(self._tls, name) for name in names}
        except (OSError, ValueError) as error:
            return self._refused(proxy, Reason.ERROR, str(error))
        outcome = await probe(route, url, tls.__getitem__, self._limits)
        outcome.total_ms += route.pin.dns_ms or 0.0
        return outcome

    # -- results

    def _refused(self, proxy: Proxy, reason: Reason, what: str) -> ProbeResult:
        detail = f"Proxy {proxy.name}: {what}"
        return ProbeResult(refusal=Refusal(reason, detail, proxy.name, proxy.family, proxy.host))

    def _result(self, proxy: Proxy, outcome: ProbeResult) -> TestResult:
        measured = {name: _rounded(getattr(outcome, name)) for name in _MEASURED}
        refusal = outcome.refusal
        return TestResult(
            ok=refusal is None,
            at=iso_time(self._clock()),
            proxy=proxy.name,
            family=proxy.family,
            code=refusal.code.value if refusal else "",
            reason=refusal.reason.value if refusal else "",
            detail=refusal.detail if refusal else "",
            **measured,
        )

    def _unusable(self, entry: _Unusable) -> TestResult:
        return TestResult(
            ok=False,
            at=iso_time(self._clock()),
            proxy=entry.name,
            family=parse_proxy_family(entry.family),
            code="INVALID_ENTRY",
            reason="invalid_entry",
            detail=entry.problem,
        )


def _rounded(value: Any) -> Any:
    return round(value, 1) if isinstance(value, float) else value
