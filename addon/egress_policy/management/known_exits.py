"""What is known about the exits of proxies: who looked, what has changed, and what refuses.

Observations lie in memory, for each proxy as it is edited: an edit makes its exit unknown. With a
registry they are noted in its journal too, and read back at the start. What was read back counts
for verdicts but lets no proxy with ``exit_enforce`` through: the journal does not know by which
credentials it was seen.

Addresses of exits are for the registry and the API: logs and events name none. ``exits.py`` tells
people, ``exit_looks.py`` looks.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol, get_args

from ..log import get_logger
from ..model.decision import Egress, Refusal, Route
from ..model.family import family_label
from ..model.proxy import Proxy
from ..model.words import iso_time
from ..policy.exits import (
    STALE_AFTER,
    Observation,
    Sightings,
    Source,
    changed_from,
    contradicted,
    mismatch,
    parse_exit_address,
    refusal,
    same_until,
)
from ..sentence import Sentence
from .in_force import PolicyInForce
from .journal import fingerprint

logger = get_logger(__name__)

REMEMBERED: Final = 20_000
"""Proxies whose exits are kept in memory."""


class ExitJournal(Protocol):
    """Keeps observations where they outlive the process: a ``JournalWriter``."""

    def add_observations(self, rows: Sequence[Mapping[str, Any]], /) -> None: ...
    async def observations(self) -> Sequence[Mapping[str, Any]]: ...


class _Judged(NamedTuple):
    """What is said of a proxy with ``exit_enforce`` until something is seen, it is edited, or the
    time ``until`` comes."""

    proxy: Proxy
    refusal: Refusal | None
    until: float


class LastSeen(NamedTuple):
    """The address of an exit, and how many seconds ago it was seen."""

    address: str
    age: float


class KnownExits:
    """For the loop only. ``clock`` gives monotonic seconds, ``now`` the time for people.

    ``on_event`` is told what happens: a kind (``exit-changed``, ``exit-contradicted`` or
    ``exit-expected``), the name of the proxy, and a clause.
    """

    def __init__(
        self,
        in_force: PolicyInForce,
        journal: ExitJournal,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._in_force, self._journal = in_force, journal
        self._clock, self._now = clock, now
        self.on_event: Callable[[str, str, str], None] = lambda *_: None
        self.on_enforced: Callable[[str], None] = lambda _: None
        """Called with the ``Egress.hop_key`` of a proxy with ``exit_enforce`` that was looked at:
        it may be used again."""
        self.on_mismatch: Callable[[], None] = lambda: None
        """Called when targets have begun to see another exit than ``exit_enforce`` demands:
        ``mismatch_on`` says by which connections."""
        self.changes = 0
        """How many stable exits have changed since the start."""
        self._seen: OrderedDict[str, Sightings] = OrderedDict()
        """By ``Egress.hop_key``."""
        self._keys: dict[str, tuple[Proxy, str]] = {}
        """The ``Egress.hop_key`` of proxies by name, to compute it once."""
        self._judged: dict[str, _Judged] = {}
        """By ``Egress.hop_key``."""
        self._contradicted: dict[str, str] = {}
        """What was logged last about proxies that are not as expected, by ``Egress.hop_key``."""
        self._mismatched: dict[str, Proxy] = {}
        """Proxies whose mismatch was told, by ``Egress.hop_key``. An edit may change what is
        expected, and so makes it new."""
        self._loaded: object = None
        """The registry whose journal was read."""

    async def load(self) -> None:
        """Read back what the journal of the registry has, once for each registry."""
        registry = self._in_force.registry
        if registry is self._loaded:
            return
        self._loaded = registry
        rows = await self._journal.observations()
        known = {fingerprint(proxy): proxy for proxy in self._in_force.policy.proxies}
        for row in rows:
            proxy, source = known.get(row["fingerprint"]), row["source"]
            address, age = parse_exit_address(str(row["address"])), self.age_of(str(row["at"]))
            # Rows may be edited by hand, and the clock may have been set back since.
            if proxy and address and source in get_args(Source) and age is not None and age >= 0:
                at = self._clock() - age
                self._of(proxy).add(Observation(address, at, source, restored=True))

    # -- what refuses

    def exit_refusal(self, egress: Egress) -> Refusal | None:
        """Why an egress must not be used because of its exit. It is asked for each pick, and costs
        something only where ``exit_enforce`` is set."""
        proxy = egress.proxy
        if proxy is None or not proxy.exit_enforce:
            return None
        key, now = egress.hop_key, self._clock()
        known = self._judged.get(key)
        if known is None or known.proxy is not proxy or now >= known.until:
            if len(self._judged) > REMEMBERED:
                self._judged.clear()
            sightings = self._seen.get(key)
            known = _Judged(proxy, refusal(proxy, sightings, now), same_until(sightings, now))
            self._judged[key] = known
        return known.refusal

    def mismatch_on(self, route: Route) -> Refusal | None:
        """Why a connection must not go on by its route, as the proxy's ``exit_enforce`` is now.

        That nobody has looked for a while refuses new flows and ends nothing.
        """
        choice, egress = route.choice, route.egress
        proxy = self._in_force.snapshot.proxies.get(egress.name)
        if proxy is None or not proxy.exit_enforce or self.key_of(proxy) != egress.hop_key:
            return None
        if choice.unmatched and choice.upstream:  # another proxy of this name, that of a mode
            return None
        refusal = mismatch(proxy, self.sightings_of(proxy), self._clock())
        return replace(refusal, rule=choice.rule) if refusal else None

    def address(self, egress: Egress) -> str:
        """The address that targets saw last of an egress, empty if that is unknown or stale."""
        known = self._seen.get(egress.hop_key)
        if known is None:
            return ""
        latest = max(known.latest(), key=attrgetter("at"), default=None)
        if family := egress.target_family:
            latest = next(iter(known.of(family)[-1:]), None)
        return latest.address if latest and self._clock() - latest.at <= STALE_AFTER else ""

    # -- observing

    def seen(self, proxy: Proxy, address: str, source: Source, age: float = 0.0) -> None:
        """A target saw this address of a proxy, ``age`` seconds ago."""
        self.seen_all([(proxy, address, age)], source)

    def seen_all(self, seen: Iterable[tuple[Proxy, str, float]], source: Source) -> None:
        """Targets saw these addresses of proxies, so many seconds ago. A mismatch is told once for
        all, however often they contradict each other."""
        begun = [self._seen_now(proxy, address, source, age) for proxy, address, age in seen]
        if any(begun):
            self.on_mismatch()

    def _seen_now(self, proxy: Proxy, address: str, source: Source, age: float) -> bool:
        """Take in an observation. Returns whether a mismatch begins with it."""
        new = Observation(address, self._clock() - age, source)
        sightings = self._of(proxy)
        before = changed_from(sightings.of(new.family), new)
        if sightings.add(new):
            self._note(proxy, new)
        if before:
            self.changes += 1
            label = family_label(6 if new.family == "ipv6" else 4)
            why = Sentence("exit_changed", "its stable {label} exit has changed", label=label)
            logger.warning(f"Egress: proxy {proxy.name}: {why}")
            self.on_event("exit-changed", proxy.name, why)
        self._judge(proxy, sightings)
        if not proxy.exit_enforce:
            return False
        key, known = self.key_of(proxy), self._mismatched
        self.on_enforced(key)
        if mismatch(proxy, sightings, self._clock()) is None:
            known.pop(key, None)
            return False
        was, known[key] = known.get(key), proxy
        return was is not proxy

    # -- asking

    def latest(self, proxy: Proxy) -> LastSeen | None:
        """What was seen last of a proxy's exit, in either family."""
        seen, now = self.sightings_of(proxy), self._clock()
        last = max(seen.latest(), key=attrgetter("at"), default=None) if seen else None
        return LastSeen(last.address, max(0.0, now - last.at)) if last else None

    def key_of(self, proxy: Proxy) -> str:
        """The ``Egress.hop_key`` of a proxy."""
        known = self._keys.get(proxy.name)
        if known is None or known[0] is not proxy:
            if len(self._keys) > REMEMBERED:
                self._keys.clear()
            known = self._keys[proxy.name] = proxy, Egress(proxy, proxy.family).hop_key
        return known[1]

    def sightings_of(self, proxy: Proxy) -> Sightings | None:
        """What was seen of the exits of a proxy, as it is edited; ``None`` if nothing was."""
        return self._seen.get(self.key_of(proxy))

    def problem(self, proxy: Proxy) -> str:
        """Why a proxy has not the exit that a person expects, as a sentence without an address;
        empty if it has. With ``exit_enforce`` the proxy is refused for it."""
        sightings = self.sightings_of(proxy)
        if proxy.exit_enforce:
            refused = refusal(proxy, sightings, self._clock())
            return refused.detail if refused else ""
        why = contradicted(proxy, sightings, self._clock()) if sightings else None
        if not why:
            return ""
        return Sentence("of_proxy", "Proxy {name}: {what}", name=proxy.name, what=why)

    def age_of_fresh(self, proxy: Proxy) -> float:
        """Seconds since this process saw the exit of a proxy; infinite if it never did."""
        seen = self.sightings_of(proxy)
        times = [one.at for one in seen.latest() if not one.restored] if seen else []
        return self._clock() - max(times, default=float("-inf"))

    # -- times of day

    def age_of(self, at: str) -> float | None:
        """Seconds since a time in ISO 8601, ``None`` for other text and without a zone."""
        try:
            return (self._now() - datetime.fromisoformat(at)).total_seconds()
        except (ValueError, TypeError):
            return None

    def time_of(self, one: Observation) -> str:
        """When an observation was made, for people."""
        return iso_time(
            datetime.fromtimestamp(self._now().timestamp() - self._clock() + one.at, UTC)
        )

    # -- inside

    def _of(self, proxy: Proxy) -> Sightings:
        key = self.key_of(proxy)
        self._judged.pop(key, None)  # it is asked for to be changed
        found = self._seen.setdefault(key, Sightings())
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            forgotten, _ = self._seen.popitem(last=False)
            self._contradicted.pop(forgotten, None)
            self._mismatched.pop(forgotten, None)
        return found

    def _note(self, proxy: Proxy, new: Observation) -> None:
        row = {
            "proxy": proxy.name,
            "fingerprint": fingerprint(proxy),
            "family": new.family,
            "address": new.address,
            "at": self.time_of(new),
            "source": new.source,
        }
        self._journal.add_observations([row])

    def _judge(self, proxy: Proxy, sightings: Sightings) -> None:
        """Say once that an exit is not as expected, and once that it is again."""
        key, why = self.key_of(proxy), contradicted(proxy, sightings, self._clock()) or ""
        if why == self._contradicted.get(key, ""):
            return
        if why:
            self._contradicted[key] = why
            logger.warning(f"Egress: proxy {proxy.name}: {why}")
            self.on_event("exit-contradicted", proxy.name, why)
        else:
            del self._contradicted[key]
            logger.info(f"Egress: proxy {proxy.name}: its exit is as expected again")
            self.on_event("exit-expected", proxy.name, "its exit is as expected again")
