"""Tests of proxies on demand, and how each fared last.

The URL that is asked for through a proxy is a setting (``test_targets.py``). The caller of a test
cannot choose it.
Results are kept in the registry, so that they outlive the process.
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import is_not
from typing import Any, Final, Protocol

from pydantic import ValidationError

from ..client.probe import ProbeResult
from ..errors import InvalidEntry, NotFound, Reason
from ..log import get_logger
from ..model.decision import Egress, Fault
from ..model.family import parse_proxy_family
from ..model.proxy import Proxy
from ..model.rule import Policy
from ..model.target_url import TargetUrl
from ..model.words import iso_time
from ..policy.hop import Outcome
from ..sentence import Sentence
from .hop_queue import HopQueue
from .in_force import PolicyInForce
from .journal import Rows, fingerprint
from .merge import STATED_TWICE
from .prober import Prober, Report, outcome_of, refusal_of
from .slots import Slots
from .test_result import TestResult
from .test_targets import targets_of
from .views import FILE_ID

logger = get_logger(__name__)

AT_ONCE: Final = 32
"""How many tests run at a time; further ones wait."""
AT_A_HOP: Final = 2
"""How many of them at one hop address: many proxies may be accounts at one gateway."""
REMEMBERED: Final = 20_000
_ENDED: Final = Sentence("test_ended", "the test was ended")
_WENT_WRONG: Final = Sentence("test_wrong", "the test went wrong; see the log")
_OF_THE_TARGET: Final = ("target", "undecided")
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
        self._known: tuple[tuple[object, ...], dict[str, Proxy | _Unusable]] | None = None

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
            return self._result(found, _refused(found, Reason.ERROR, _ENDED))
        return task.result()

    async def test_many(self, keys: Iterable[str]) -> AsyncGenerator[tuple[str, TestResult]]:
        """Test proxies by id or name, each once, as many at a time as may be tested. Yields keys
        and results as they come. Closing it begins no more tests; those under way end by
        themselves."""
        queue = HopQueue[str](AT_A_HOP)
        for key in dict.fromkeys(keys):
            queue.put(self._place_of(key), key)
        running: dict[asyncio.Task[TestResult], tuple[Hashable, str]] = {}
        try:
            while True:
                while len(running) < AT_ONCE and (taken := queue.take()):
                    task = asyncio.create_task(
                        self._test_or_say(taken[1]), name="egress test of many"
                    )
                    running[task] = taken
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    place, key = running.pop(task)
                    queue.give_back(place)
                    yield key, task.result()
        finally:
            for task in running:
                task.cancel()

    async def _test_or_say(self, key: str) -> TestResult:
        try:
            return await self.test(key)
        except NotFound as error:  # it was deleted meanwhile
            said = self._unusable(_Unusable(key, None, str(error)))
            return said.model_copy(update={"code": error.code, "reason": "not_found"})

    def _place_of(self, key: str) -> Hashable:
        try:
            found = self._find(key)
        except NotFound:
            return key
        return (found.host, found.port) if isinstance(found, Proxy) else key

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
        made_of = (self._in_force.file, self._in_force.state)
        if self._known is None or any(map(is_not, self._known[0], made_of)):
            self._known = made_of, self._by_key()
        if found := self._known[1].get(key):
            return found
        raise NotFound(Sentence("no_such_proxy", "There is no such proxy"))

    def _by_key(self) -> dict[str, Proxy | _Unusable]:
        """By id and name. A name means the proxy of the policy file, where it has one."""
        file = {proxy.name: proxy for proxy in (self._in_force.file or Policy()).proxies}
        state = self._in_force.state
        names: dict[str, Proxy | _Unusable] = {}
        ids: dict[str, Proxy | _Unusable] = {}
        for stored in state.proxies if state else ():
            problem = STATED_TWICE if stored.name in file else stored.problem
            usable = None if problem else stored.proxy
            found = usable or _Unusable(stored.name, stored.raw.get("family"), problem)
            names.setdefault(stored.name, found)
            ids[stored.id] = found
        filed = {FILE_ID + name: proxy for name, proxy in file.items()}
        return {**names, **file, **ids, **filed}

    # -- testing

    def _start(self, proxy: Proxy, egress: Egress) -> asyncio.Task[TestResult]:
        task = asyncio.create_task(self._test(proxy, egress), name=f"egress test {proxy.name}")
        self._running[proxy.name] = _Running(egress.key, task)
        task.add_done_callback(lambda _: self._ended(proxy.name))
        return task

    def _ended(self, name: str) -> None:
        del self._running[name]

    async def _test(self, proxy: Proxy, egress: Egress) -> TestResult:
        target = ""
        async with self._slots.at((proxy.host, proxy.port)):
            try:
                outcome, target = await self._probe(proxy, egress)
            except Exception:
                logger.exception(f"Egress: the test of proxy {proxy.name} went wrong")
                outcome = _refused(proxy, Reason.ERROR, _WENT_WRONG)
        result = self._result(proxy, outcome, target)
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

    async def _probe(self, proxy: Proxy, egress: Egress) -> tuple[ProbeResult, str]:
        """How the test went, and the host that was asked last: the next target is asked where the
        one before may be to blame."""
        state = self._in_force.state
        try:
            urls = targets_of(proxy, state.settings if state else {})
        except InvalidEntry as error:  # edited by hand
            setting = "the setting test_url: {why}"
            why = Sentence("setting_test_url", setting, why=error.text)
            return _refused(proxy, Reason.ERROR, why), ""
        for url in urls:
            began = self._prober.clock()
            tell = functools.partial(self._tell, egress, url)
            result = await self._prober.probe(egress, url, tell)
            tell(outcome_of(result, began, self._prober.clock()))
            if fault_of(result) not in _OF_THE_TARGET:
                break
        return result, url.host

    def _tell(self, egress: Egress, url: TargetUrl, outcome: Outcome) -> None:
        """Report what a test says about a proxy, if that is in force as it was tested."""
        current = self._in_force.snapshot.proxies.get(egress.name)
        if current is None or current.status == "inactive":
            return
        if Egress(current, current.family).hop_key == egress.hop_key:
            self._report(egress, (url.host, url.port), "", outcome)

    # -- results

    def _result(self, proxy: Proxy, outcome: ProbeResult, target: str = "") -> TestResult:
        measured = {name: _rounded(getattr(outcome, name)) for name in _MEASURED}
        refusal, fault = outcome.refusal, fault_of(outcome)
        detail = refusal.detail if refusal else ""
        if target and fault in _OF_THE_TARGET:
            detail = Sentence(
                "target_to_blame",
                "{failure}; the target {target} may be to blame",
                failure=detail,
                target=target,
            )
        return TestResult(
            ok=refusal is None,
            at=iso_time(self._clock()),
            proxy=proxy.name,
            family=proxy.family,
            code=refusal.code.value if refusal else "",
            reason=refusal.reason.value if refusal else "",
            detail=detail,
            target=target,
            fault=fault,
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


def fault_of(outcome: ProbeResult) -> Fault:
    """Whose a failure seems to be; empty for a success."""
    if outcome.failure:
        return outcome.failure.judgement.fault
    return outcome.refusal.fault if outcome.refusal else ""


def _rounded(value: Any) -> Any:
    return round(value, 1) if isinstance(value, float) else value


def _refused(proxy: Proxy, reason: Reason, what: str) -> ProbeResult:
    return ProbeResult(refusal=refusal_of(proxy, reason, what))
