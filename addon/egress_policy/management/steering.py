"""Steering: a person gives hosts another way out while looking at flows, and takes that back.

A proxy of the registry is assigned to the host. An assignment can name nothing else, so for a pool,
``direct``, ``refuse`` and a proxy of the policy file a rule ``use:HOST`` goes before the other
rules of the registry. Both last, and hold for all clients. The steps back are kept in memory.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import Conflict, InvalidEntry, NotFound, RegistryUnavailable
from ..model.decision import Decision
from ..model.host import url_host
from ..model.proxy import ProxyStatus
from ..model.rule import Policy, parse_host_pattern
from ..model.words import count
from ..registry.records import RegistryState, StoredAssignment, StoredRule
from ..sentence import Sentence
from .explain import ExplainQuery
from .proxies import Proxies
from .upkeep import Upkeep
from .views import Spoken, View

if TYPE_CHECKING:
    from ..registry.registry import Edit

CLEAR: Final = "clear"
"""Takes away what steering has set for a host."""
HOSTS: Final = 1000
"""How many hosts one step may steer."""
STEPS: Final = 50
"""How many steps can be taken back."""
_LONGEST_NAME: Final = 120
_Revert = Callable[["Edit"], None]
_NO_QUERIES: Final[Mapping[str, ExplainQuery]] = {}


class SteeredHost(Spoken):
    """What a step changed for a host.

    ``before`` and ``after`` say by which egress it leaves and, in brackets, the label of the rule
    that decides: ``direct (default)``. ``lasts`` says for how long the step holds.
    ``overruled_by`` is the label of an earlier rule that decides instead; empty if none does.
    """

    host: str
    before: str
    after: str
    lasts: str
    overruled_by: str = ""


class Steered(View):
    changed: tuple[SteeredHost, ...]


class Undone(View):
    """``undone`` says which step was taken back."""

    undone: str


class _Place(NamedTuple):
    """What the registry holds for one host."""

    assignment: StoredAssignment | None
    rule: StoredRule | None

    @property
    def content(self) -> tuple[object, ...]:
        """Equal as long as the host leaves by the same, whoever set it."""
        assignment, rule = self
        return (
            assignment and (assignment.proxy_id, assignment.group),
            rule and rule.rule.use,
        )


@dataclass(frozen=True, slots=True)
class _Step:
    """``said`` names it; ``revert`` takes it back within an edit of ``registry``, which gets
    ``patience`` seconds for it."""

    said: str
    registry: object
    revert: _Revert
    patience: float


class Steering:
    """``decide`` says which rule decides about a request, and how.

    Changes raise the errors of ``Upkeep.change``.
    """

    def __init__(
        self, upkeep: Upkeep, proxies: Proxies, decide: Callable[[ExplainQuery], Decision]
    ) -> None:
        self._upkeep = upkeep
        self._proxies = proxies
        self._in_force = upkeep.in_force
        self._decide = decide
        self._steps: deque[_Step] = deque(maxlen=STEPS)

    async def use(
        self,
        hosts: Sequence[str],
        use: str,
        queries: Mapping[str, ExplainQuery] = _NO_QUERIES,
    ) -> Steered:
        """Let hosts leave by a proxy or a pool, by its name, or by ``direct``; ``refuse`` them;
        ``clear`` what was set here. All hosts or none are changed.

        ``queries`` are the requests, by host, by which the effect is judged; without one it is
        judged by ``https://HOST/``. Raises ``InvalidEntry`` (field "hosts" or "use").
        """
        named = {host: _host(host) for host in hosts}
        asked = {host: queries.get(raw) or _query(host) for raw, host in named.items()}
        if not 0 < len(asked) <= HOSTS:
            raise InvalidEntry(
                Sentence(
                    "steer_hosts",
                    "1 to {most} hosts are expected, not {count}",
                    most=HOSTS,
                    count=len(asked),
                ),
                "hosts",
            )
        before = {host: self._said(query) for host, query in asked.items()}

        def make(edit: "Edit") -> _Revert:
            state = edit.load(self._in_force.state)
            if use == CLEAR:
                _require_clear_is_no_egress(state, self._in_force.filed)
            was = _places(state, asked)
            proxies = {one.name: one.id for one in state.proxies}
            first = _first(state, was)
            for host, place in was.items():
                _drop(edit, place)
                if use in proxies:
                    edit.assignments.put("host", host, proxies[use], group=_group(place))
                elif use != CLEAR:
                    first = edit.rules.create(_rule(host, use), first).id
            return _reversal(was, _places(edit.load(state), asked))

        patience = _patience(len(asked))
        revert = await self._upkeep.change(make, patience)
        self._keep(f"{_named(list(asked))}: {use}", revert, patience)
        labels = {host: {_label(host), f"host:{host}"} for host in asked}
        return Steered(
            changed=tuple(
                SteeredHost(
                    host=host,
                    before=before[host],
                    after=self._said(query),
                    lasts=self._lasts(use),
                    overruled_by=self._overruled(query, use, labels[host]),
                )
                for host, query in asked.items()
            )
        )

    async def set_status(self, proxy: str, status: ProxyStatus) -> None:
        """Use a proxy of the registry, by its id or name, or refuse what uses it."""
        id_ = await self._proxies.find_own(proxy)

        def make(edit: "Edit") -> _Revert:
            was = edit.proxies.one(id_).raw["status"]
            edit.proxies.update(id_, {"status": status})

            def revert(edit: "Edit") -> None:
                if edit.proxies.one(id_).raw["status"] != status:
                    raise Conflict(Sentence("changed_since", "it was changed again since"))
                edit.proxies.update(id_, {"status": was})

            return revert

        self._keep(f"{proxy}: {status}", await self._upkeep.change(make), _patience(1))

    async def undo(self) -> Undone:
        """Take back the last step. Raises ``NotFound`` if there is none, and ``Conflict`` if what
        it changed was changed again: then it can never be taken back."""
        if not self._steps:
            raise NotFound(
                Sentence("nothing_to_undo", "There is nothing to undo: no change was made here")
            )
        step = self._steps.pop()
        if step.registry is not self._in_force.opened.registry:
            raise Conflict(
                Sentence(
                    "undo_elsewhere",
                    "{step!r} cannot be undone: it was made in another registry",
                    step=step.said,
                )
            )
        try:
            await self._upkeep.change(step.revert, step.patience)
        except RegistryUnavailable:
            self._steps.append(step)
            raise
        except (Conflict, NotFound, InvalidEntry) as error:
            raise Conflict(
                Sentence(
                    "cannot_undo",
                    "{step!r} cannot be undone: {why}",
                    step=step.said,
                    why=error.text,
                )
            ) from error
        return Undone(undone=step.said)

    def _keep(self, said: str, revert: _Revert, patience: float) -> None:
        self._steps.append(_Step(said, self._in_force.opened.registry, revert, patience))

    def _lasts(self, use: str) -> str:
        if use == CLEAR:
            return Sentence("rules_decide_again", "the other rules decide again")
        registry = self._in_force.registry
        kept = registry is not None and registry.name != ":memory:"
        if kept:
            return Sentence("until_cleared", "for all clients, until it is cleared")
        ends = "for all clients, until it is cleared or mitmproxy ends"
        return Sentence("until_end", ends)

    def _said(self, query: ExplainQuery) -> str:
        decision = self._decide(query)
        way = decision.pool or next((one.name for one in decision.members), "")
        return f"{'refuse' if decision.refusal else way} ({decision.rule})"

    def _overruled(self, query: ExplainQuery, use: str, own: set[str]) -> str:
        rule = self._decide(query).rule
        return "" if use == CLEAR or rule in own else rule


def _patience(hosts: int) -> float:
    """Seconds that the registry gets. A change that is given up may still be made, and then there
    is no step back."""
    return 10.0 + hosts / 20


def _host(text: str) -> str:
    host = parse_host_pattern(text)
    if host.startswith("*"):
        raise InvalidEntry(
            Sentence("steer_pattern", "a pattern cannot be steered; make a rule for it"), "hosts"
        )
    return host


def _query(host: str) -> ExplainQuery:
    return ExplainQuery(url=f"https://{url_host(host)}/")


def _require_clear_is_no_egress(state: RegistryState, filed: Policy) -> None:
    """Raises ``InvalidEntry`` where a proxy or pool has the name: a person who means that would
    send the host the way of the other rules, which may be direct."""
    stored = {one.name for one in state.proxies} | {one.name for one in state.pools}
    in_file = {one.name for one in filed.proxies} | {one.name for one in filed.pools}
    if CLEAR in stored | in_file:
        raise InvalidEntry(
            Sentence(
                "steer_clear",
                "'clear' is the name of a proxy or pool too: give that another name",
            ),
            "use",
        )


def _label(host: str) -> str:
    """The name of the rule that steers a host."""
    name = f"use:{host}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:100]}~{sha256(host.encode()).hexdigest()[:16]}"


def _rule(host: str, use: str) -> dict[str, object]:
    return {"name": _label(host), "hosts": [host], "use": use}


def _places(state: RegistryState, hosts: Mapping[str, object]) -> dict[str, _Place]:
    """What the registry holds for each of the hosts. Raises ``Conflict`` for a rule of the name
    that was made or edited by somebody else."""
    assigned = {one.scope_id: one for one in state.assignments if one.scope == "host"}
    named = {one.label: one for one in state.rules if one.named}
    places = {host: _Place(assigned.get(host), named.get(_label(host))) for host in hosts}
    for host, (_, rule) in places.items():
        if rule and rule.rule.model_dump(exclude_defaults=True) != {
            **_rule(host, str(rule.rule.use)),
            "hosts": (host,),
        }:
            raise Conflict(
                Sentence(
                    "steer_edited",
                    "Rule {label!r} was edited; rename it, change it, or delete it",
                    label=rule.label,
                )
            )
    return places


def _first(state: RegistryState, places: Mapping[str, _Place]) -> str | None:
    """The first rule that is of none of the places. Each rule that is made goes before the one
    before: at the end of the order there is always room, and no other rule gets another place."""
    own = {place.rule.id for place in places.values() if place.rule}
    return next((one.id for one in state.rules if one.id not in own), None)


def _drop(edit: "Edit", place: _Place) -> None:
    if place.assignment:
        edit.assignments.put("host", place.assignment.scope_id, None)
    if place.rule:
        edit.rules.delete(place.rule.id)


def _group(place: _Place) -> str | None:
    """The host stays in its group when it is assigned another proxy."""
    return place.assignment.group if place.assignment else None


def _reversal(was: Mapping[str, _Place], now: Mapping[str, _Place]) -> _Revert:
    def revert(edit: "Edit") -> None:
        state = edit.load()
        there = _places(state, now)
        if any(place.content != now[host].content for host, place in there.items()):
            raise Conflict(Sentence("changed_since", "it was changed again since"))
        first = _first(state, there)
        for host, place in was.items():
            _drop(edit, there[host])
            if old := place.assignment:
                edit.assignments.put("host", host, old.proxy_id, group=old.group)
            if place.rule:
                first = edit.rules.create(_rule(host, str(place.rule.rule.use)), first).id

    return revert


def _named(hosts: Sequence[str]) -> str:
    return hosts[0] if len(hosts) == 1 else count(len(hosts), "host", "hosts")
