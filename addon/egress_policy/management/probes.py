"""Tests of proxies on demand, and how each fared last.

The URL that is asked for through a proxy is a setting. The caller of a test cannot choose it.
Results are kept in the registry, so that they outlive the process.
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from pydantic import ValidationError

from ..client.probe import ProbeResult
from ..errors import InvalidEntry, NotFound, Reason
from ..log import get_logger
from ..model.decision import Egress
from ..model.family import parse_proxy_family
from ..model.proxy import Proxy
from ..model.rule import Policy
from ..model.target_url import TargetUrl, parse_test_url
from ..model.words import iso_time
from ..policy.hop import Outcome
from ..sentence import Sentence
from .in_force import PolicyInForce
from .journal import Rows, fingerprint
from .merge import STATED_TWICE
from .prober import Prober, Report, outcome_of, refusal_of
from .slots import Slots
from .test_result import TestResult
from .views import FILE_ID

logger = get_logger(__name__)

DEFAULT_URL: Final = "https://api64.ipify.org/"
"""The URL to ask for where the registry has no ``test_url``. It answers with the client's address.
"""
AT_ONCE: Final = 32
"""How many tests run at a time; further ones wait."""
AT_A_HOP: Final = 2
"""How many of them at one hop address: many proxies may be accounts at one gateway."""
REMEMBERED: Final = 20_000
_MEASURED: Final = tuple(
    one.name for one in fields(ProbeResult) if one.name in TestResult.model_fields
)


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


@dataclass(frozen=True, slots=True)
class _Kept:
    """A result, and the proxy that it is about: its fingerprint, and its ``Egress.key`` where this
    process made the test. The key tells apart credentials too."""

    mark: str
    key: str | None
    result: TestResult

    def is_about(self, proxy: Proxy) -> bool:
        if self.key is None:
            return self.mark == fingerprint(proxy)
        return self.key == Egress(proxy, proxy.family, proxy.target_family).key


class ResultKeeper(Protocol):
    """Keeps results where they outlive the process: a ``JournalWriter``."""

    def put_tests(self, rows: Rows) -> None: ...

    async def tests(self) -> list[dict[str, Any]]: ...


def _nobody(*_: object) -> None:
    pass


class Probes:
    """Tests proxies, each once at a time: callers that come meanwhile get the same result.

    ``report`` takes in what a test says about a proxy that the policy may use. ``clock`` says when
    a test was made.
    """

    def __init__(
        self,
        in_force: PolicyInForce,
        prober: Prober,
        keeper: ResultKeeper,
        report: Report = _nobody,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._in_force = in_force
        self._prober = prober
        self._keeper = keeper
        self._report = report
        self._clock = clock
        self._slots = Slots(AT_ONCE, AT_A_HOP)
        self._running: dict[str, _Running] = {}
        self._last: OrderedDict[str, _Kept] = OrderedDict()

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
            return self._result(found, _refused(found, Reason.ERROR, "the test was ended"))
        return task.result()

    def last(self, name: str) -> TestResult | None:
        """How the proxy of this name fared last, unless it was changed since."""
        kept, proxy = self._last.get(name), self._in_force.snapshot.proxies.get(name)
        return kept.result if kept and proxy and kept.is_about(proxy) else None

    async def recall(self) -> None:
        """Take in what the registry has: results of earlier runs and of other nodes."""
        for row in await self._keeper.tests():
            try:
                result = TestResult.model_validate_json(row["result"])
            except ValidationError:  # of another version, or edited by hand
                continue
            known = self._last.get(row["proxy"])
            if known is None or known.result.at < result.at:
                self._remember(row["proxy"], _Kept(row["fingerprint"], None, result))

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
        raise NotFound(Sentence("no_such_proxy", "There is no such proxy"))

    # -- testing

    def _start(self, proxy: Proxy, egress: Egress) -> asyncio.Task[TestResult]:
        task = asyncio.create_task(self._test(proxy, egress), name=f"egress test {proxy.name}")
        self._running[proxy.name] = _Running(egress.key, task)
        task.add_done_callback(lambda _: self._ended(proxy.name))
        return task

    def _ended(self, name: str) -> None:
        del self._running[name]

    async def _test(self, proxy: Proxy, egress: Egress) -> TestResult:
        async with self._slots.at((proxy.host, proxy.port)):
            try:
                outcome = await self._probe(proxy, egress)
            except Exception:
                logger.exception(f"Egress: the test of proxy {proxy.name} went wrong")
                outcome = _refused(proxy, Reason.ERROR, "the test went wrong; see the log")
        result = self._result(proxy, outcome)
        kept = _Kept(fingerprint(proxy), egress.key, result)
        self._remember(proxy.name, kept)
        row = {"proxy": proxy.name, "fingerprint": kept.mark, "at": result.at}
        self._keeper.put_tests([{**row, "result": result.model_dump_json()}])
        return result

    def _remember(self, name: str, kept: _Kept) -> None:
        self._last[name] = kept
        self._last.move_to_end(name)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)

    async def _probe(self, proxy: Proxy, egress: Egress) -> ProbeResult:
        state = self._in_force.state
        setting = state.settings.get("test_url") if state else None
        try:
            url = parse_test_url(setting or DEFAULT_URL)
        except InvalidEntry as error:  # edited by hand
            return _refused(proxy, Reason.ERROR, f"the setting test_url: {error}")
        began = self._prober.clock()
        tell = functools.partial(self._tell, egress, url)
        result = await self._prober.probe(egress, url, tell)
        tell(outcome_of(result, began, self._prober.clock()))
        return result

    def _tell(self, egress: Egress, url: TargetUrl, outcome: Outcome) -> None:
        """Report what a test says about a proxy, if that is in force as it was tested."""
        current = self._in_force.snapshot.proxies.get(egress.name)
        if current is None or current.status == "inactive":
            return
        if Egress(current, current.family).hop_key == egress.hop_key:
            self._report(egress, (url.host, url.port), "", outcome)

    # -- results

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


def _refused(proxy: Proxy, reason: Reason, what: str) -> ProbeResult:
    return ProbeResult(refusal=refusal_of(proxy, reason, what))
