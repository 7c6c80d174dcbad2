"""The resolver behind the pre-flight: hosts file, cache, and one query in flight per question.

``stub.py`` asks DNS; ``policy/preflight.py`` judges the answers.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from ..model.decision import Refusal
from ..model.family import FamilyNumber, ProxyFamily, record_label, require_proxy_family
from ..model.host import detect_ip_literal_family, normalize_target_host
from ..model.nameserver import parse_nameserver
from ..policy.preflight import DnsAnswer, Query, Resolver, judge, plan
from ..sentence import Sentence
from .cache import AnswerCache, Question
from .hosts import HostsFile
from .stub import UNREADABLE, Stub, SystemStub, ask, configured_stub, failure
from .system import CLOSED, SystemResolver

_HOSTS_TTL: Final = 1.0
NO_HOSTS: Final = Sentence("dns_no_hosts", "the hosts file cannot be read")


class DnsResolver:
    """Resolves names of one family, first by ``hosts``, then by DNS.

    ``servers`` are texts for ``parse_nameserver``. If empty, the servers come from ``resolv_conf``,
    at ``system_port``, and that file is read again when it changes. ``timeout`` (seconds) bounds
    one question with all its retries. Raises ``InvalidEntry`` for a bad server, or a server that
    needs an extra which is not installed.
    """

    def __init__(
        self,
        servers: Sequence[str] = (),
        timeout: float = 3.0,
        hosts: HostsFile | None = None,
        clock: Callable[[], float] = time.monotonic,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        system_port: int = 53,
    ) -> None:
        self._get_stub: Callable[[], Stub]
        if servers:
            stub = configured_stub([parse_nameserver(text) for text in servers], timeout)
            self._get_stub = lambda: stub
        else:
            self._get_stub = SystemStub(resolv_conf, timeout, system_port).get
        self._hosts = hosts
        self._system = SystemResolver()
        self._clock = clock
        self._stub: Stub | None = None
        self._cache = AnswerCache(clock)
        self._flights: dict[Question, asyncio.Task[DnsAnswer]] = {}
        self._tasks: set[asyncio.Task[DnsAnswer]] = set()
        self._closed = False

    async def resolve(self, host: str, family: FamilyNumber | None) -> DnsAnswer:
        """Resolve ``host``. DNS failures are answers, not exceptions. ``elapsed_ms`` is how long
        this caller waited."""
        started = self._clock()
        name = normalize_target_host(host)
        if family is None:
            answer = await self._system.resolve(name)
        else:
            answer = self._from_hosts(name, family) or await self._from_dns((name, family))
        return replace(answer, elapsed_ms=(self._clock() - started) * 1000)

    def known(self, host: str, family: FamilyNumber | None) -> DnsAnswer | None:
        """The answer of ``resolve`` if it needs no query, otherwise ``None``."""
        if family is None:
            return None
        name = normalize_target_host(host)
        return self._from_hosts(name, family) or self._from_cache((name, family))

    def clear(self) -> None:
        """Forget all answers, including those of queries still in flight."""
        self._cache.clear()
        self._flights.clear()

    async def aclose(self) -> None:
        """Cancel the queries in flight. Pending and later questions are answered with a failure."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, self._system.aclose(), return_exceptions=True)

    def _from_hosts(self, name: str, family: FamilyNumber) -> DnsAnswer | None:
        try:
            entries = self._hosts.addresses(name) if self._hosts else None
        except OSError:
            # The file may list the name, so DNS might lead somewhere else.
            return failure(NO_HOSTS)
        if entries is None:
            return None
        # If the file lists the name at all, DNS is not asked.
        addresses = tuple(ip for ip in entries if detect_ip_literal_family(ip) == family)
        kind: Literal["records", "no_record"] = "records" if addresses else "no_record"
        return DnsAnswer(addresses, _HOSTS_TTL, kind, from_hosts=True)

    async def _from_dns(self, question: Question) -> DnsAnswer:
        try:
            stub = self._get_stub()
        except OSError:
            return failure(UNREADABLE)
        if stub is not self._stub:
            self.clear()
            self._stub = stub
        return self._cache.get(question) or await self._from_flight(stub, question)

    def _from_cache(self, question: Question) -> DnsAnswer | None:
        try:
            stub = self._get_stub()
        except OSError:
            return None
        return self._cache.get(question) if stub is self._stub else None

    async def _from_flight(self, stub: Stub, question: Question) -> DnsAnswer:
        if self._closed:
            return CLOSED
        flight = self._flights.get(question)
        if flight is None or flight.done():
            name = f"egress-dns {question[0]} {record_label(question[1])}"
            flight = asyncio.create_task(self._fly(stub, question), name=name)
            self._flights[question] = flight
            self._tasks.add(flight)
            flight.add_done_callback(self._tasks.discard)
        # Awaiting the flight directly would cancel it together with one of its callers.
        await asyncio.wait({flight})
        return CLOSED if flight.cancelled() else flight.result()

    async def _fly(self, stub: Stub, question: Question) -> DnsAnswer:
        answer = await ask(stub, *question)
        # If ``clear`` ran meanwhile, its questions must not return to the cache.
        if self._flights.get(question) is asyncio.current_task():
            del self._flights[question]
            self._cache.put(question, answer)
        return answer


async def assert_hostname_supports_family(
    host: str, family: ProxyFamily | FamilyNumber, resolver: Resolver
) -> tuple[str, ...]:
    """The addresses of ``host`` that may be dialled under ``family``, in order.

    As OmniRoute's ``assertHostnameSupportsFamily``; ``family`` is a directive or, as there, 4 or 6.
    A literal, and any host under ``auto``, is returned unchanged without a look-up. Raises
    ``EgressError`` with the reason of the refusal, ``InvalidEntry`` for an invalid ``family``.
    """
    directive = require_proxy_family(f"ipv{family}" if family in (4, 6) else family)
    outcome = plan(host, directive)
    if isinstance(outcome, Query):
        outcome = judge(outcome, await resolver.resolve(outcome.host, outcome.family))
    if isinstance(outcome, Refusal):
        raise outcome.to_error()
    return outcome.addresses
