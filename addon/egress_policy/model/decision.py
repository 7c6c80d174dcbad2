"""The stations of a flow, in the order in which it meets them. Pure values.

A ``Target`` is where a flow wants to go; an ``Egress`` is a fully specified way out (which proxy,
which family). The policy makes a ``Decision`` about the target, the ``Choice`` settles on one of
its ``Members``, a ``Pin`` holds the addresses that may be dialled, and the ``Route`` is dialled.
At each of them the way may end with a ``Refusal``.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, Protocol, Self

from ..errors import Code, Reason, Unavailable
from .family import FamilyNumber, ProxyFamily
from .pool import Pool
from .proxy import Proxy

Transport = Literal["tcp", "udp"]
Place = tuple[str, int]
"""A host and a port. The host is canonical: an IP literal without brackets or an A-label."""
_PROCESS_KEY = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request or connection wants to go, and who asks for it.

    ``host`` is canonical (lower-case A-label or IP literal without brackets), ``client`` an IP
    literal. Filter expressions are evaluated on ``flow``, an opaque object of the proxy; it is
    ``None`` while only the connection is known.
    """

    host: str
    port: int
    client: str = ""
    transport: Transport = "tcp"
    flow: object | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Egress:
    """One way out. Without a ``proxy`` it is direct, and ``family`` pins the target itself.

    ``target_family`` pins the second hop: the target's name is resolved here, and the proxy is
    asked for the literal.
    """

    proxy: Proxy | None
    family: ProxyFamily = "auto"
    target_family: Literal["ipv4", "ipv6"] | None = None

    @property
    def name(self) -> str:
        return self.proxy.name if self.proxy else "direct"

    @cached_property
    def key(self) -> str:
        """Identity for connection reuse: only connections with equal keys may be shared.

        Any edit of the proxy, its credentials included, makes another key. The key is a keyed
        digest that differs from process to process, so that it reveals no credentials.
        """
        return self._digest(self.target_family or "")

    @cached_property
    def hop_key(self) -> str:
        """Identity of the hop alone, whatever it is asked for: that of a proxy as it was edited."""
        return self._digest("") if self.target_family else self.key

    def _digest(self, target_family: str) -> str:
        parts: list[str] = [self.family, target_family]
        if self.proxy:
            proxy = self.proxy
            parts += [proxy.name, proxy.type, proxy.host, str(proxy.port), proxy.plain_http]
            parts += [proxy.username, proxy.password.get_secret_value()]
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2s(text, key=_PROCESS_KEY, digest_size=8).hexdigest()


class Members(tuple[Egress, ...]):
    """The egresses to pick from, in order, with their ``weights``. Each is found by its key,
    however many there are."""

    weights: tuple[int, ...]

    def __new__(cls, egresses: Iterable[Egress] = (), weights: Iterable[int] = ()) -> Self:
        members = super().__new__(cls, egresses)
        members.weights = tuple(weights) or (1,) * len(members)
        return members

    @cached_property
    def by_key(self) -> Mapping[str, Egress]:
        """Each member by its ``Egress.key``. Made when it is first asked for, then kept."""
        return {member.key: member for member in self}


NO_MEMBERS: Final = Members()


Fault = Literal["own", "proxy", "target", "undecided", ""]
"""Whose fault a failure is: our network's, the proxy's, the target's. Empty where that is no
question."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A member of a pool that was tried in vain. ``ms`` says how long that took."""

    proxy: str
    key: str = field(repr=False)
    reason: Reason
    fault: Fault
    ms: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a flow may not leave. ``detail`` is a sentence for people, free of credentials.

    ``proxy`` is the name of the egress, ``direct`` among them, empty where none was chosen. A rule
    may name what does not exist, perhaps a pool: only then ``names_egress`` is false.
    ``fails_over``: another member of the pool may be tried. ``retry_after`` says in how many
    seconds another try may help. ``tried`` are the attempts, this one included, where the egress
    was picked from a pool.
    """

    reason: Reason
    detail: str
    proxy: str = ""
    family: ProxyFamily = "auto"
    host: str = ""
    rule: str = ""
    fault: Fault = ""
    fails_over: bool = False
    retry_after: float | None = None
    tried: tuple[Attempt, ...] = ()
    names_egress: bool = True

    @property
    def code(self) -> Code:
        return self.reason.code

    def to_error(self) -> Unavailable:
        return Unavailable(self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says about a target. With the outcome ``egress`` one of ``members`` is taken.

    ``rule`` is the label of the rule that decided, ``default`` if none matched (``unmatched``).
    ``picked_from`` is the pool that has the members. ``why`` is a short text for people.
    """

    outcome: Literal["egress", "refuse", "undecided"]
    rule: str
    why: str
    members: Members = NO_MEMBERS
    picked_from: Pool | None = None
    refusal: Refusal | None = None
    unmatched: bool = False

    @property
    def pool(self) -> str:
        return self.picked_from.name if self.picked_from else ""


@dataclass(slots=True, eq=False)
class Purpose:
    """The target that a connection is opened for, by which it is judged when the policy changes.

    It is emptied once the connection carries flows, which are judged one by one: the connection
    then stays as long as the policy has its egress, and keeps no flow in memory.
    """

    target: Target | None


@dataclass(slots=True, eq=False)
class Trial:
    """The one attempt that a half-open circuit lets through, held for a choice by its egress.

    ``give_back`` lets another one through. It is ``None`` once the attempt has begun, whose end is
    reported, or once the trial was given back.
    """

    give_back: Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The egress chosen for a target, or why there is none.

    With neither ``egress`` nor ``refusal`` the choice needs the request and is still open.
    It names the rule and the pool of its decision rather than holding it: stored flows keep their
    choice, and a decision has all members of its pool.
    """

    egress: Egress | None = None
    refusal: Refusal | None = None
    rule: str = ""
    pool: str = ""
    unmatched: bool = False
    generation: object = field(default=None, compare=False, repr=False)
    """Stands for the policy under which it was made; under another one it leads nowhere."""
    purpose: Purpose = field(default_factory=lambda: Purpose(None), compare=False, repr=False)
    upstream: Proxy | None = field(default=None, compare=False, repr=False)
    """The proxy that stood for ``direct`` where no rule matches."""
    strategy: str = ""
    """That of the pool; empty without one."""
    tried: tuple[Attempt, ...] = ()
    """The members that were tried before this one."""
    began: float = field(default=0.0, compare=False, repr=False)
    """When a member of a pool was picked, in seconds on the monotonic clock."""
    deadline: float | None = field(default=None, compare=False, repr=False)
    """When a tunnel must stand at the latest, on that clock, where another member may be tried."""
    is_last: bool = True
    """Whether no other member is tried if this one fails."""
    trial: Trial | None = field(default=None, compare=False, repr=False)

    def dialled(self) -> None:
        """An attempt for this choice begins. Its end has to be reported."""
        if self.trial:
            self.trial.give_back = None

    def dropped(self) -> None:
        """Nothing more is dialled for this choice: if that was to be a trial, another flow may have
        it. Does nothing if an attempt has begun."""
        if self.trial and (give_back := self.trial.give_back):
            self.trial.give_back = None
            give_back()

    @property
    def is_open(self) -> bool:
        return self.egress is None and self.refusal is None


@dataclass(frozen=True, slots=True)
class Pin:
    """The only addresses that may be dialled, in order, all of ``family``.

    ``family`` is ``None`` where nothing is pinned: ``addresses`` then has the host name alone,
    which the system resolves, or the addresses that the system found for it. ``ttl`` (seconds)
    says how long the answer may be used, ``dns_ms`` how long it took; both are ``None`` if nothing
    was asked.
    """

    addresses: tuple[str, ...]
    family: FamilyNumber | None
    ttl: float | None = None
    dns_ms: float | None = None


Meter = Callable[[int, int], None]
"""Is called with how many bytes went to the hop of a route, and how many came from it."""


class LoopCheck(Protocol):
    """Knows where this process listens. Asked again at each dial, since that changes."""

    def loop(self, route: "Route", place: Place) -> Refusal | None:
        """Why nothing must go to ``place`` on this route."""

    def loop_back(self, route: "Route", peer: Place, local: str) -> Refusal | None:
        """Why a connection from the address ``local`` to ``peer`` must not be used."""


@dataclass(frozen=True)
class Route:
    """What to dial for one connection: the addresses of the hop, then the target to ask it for.

    ``choice`` has an egress. ``target`` is where the egress is asked to go; for a direct egress
    hop and target are the same.
    """

    choice: Choice
    pin: Pin
    target: Place
    transport: Transport = "tcp"
    loops: LoopCheck | None = field(default=None, compare=False, repr=False)
    meter: Meter | None = field(default=None, compare=False, repr=False)

    @cached_property
    def egress(self) -> Egress:
        if self.choice.egress is None:
            raise ValueError("a route needs an egress")
        return self.choice.egress

    @property
    def proxy(self) -> Proxy:
        """The proxy of a route that has one."""
        if self.egress.proxy is None:
            raise ValueError("a direct route has no proxy")
        return self.egress.proxy

    @property
    def hop(self) -> Place:
        """The host and port to dial: those of the proxy, or of the target."""
        proxy = self.egress.proxy
        return (proxy.host, proxy.port) if proxy else self.target

    @property
    def port(self) -> int:
        """The port to dial."""
        return self.hop[1]

    @property
    def is_stock(self) -> bool:
        """Whether it is direct and not pinned: what mitmproxy does on its own."""
        return self.egress.proxy is None and self.egress.family == "auto"

    def loop(self, place: Place) -> Refusal | None:
        """Why nothing must go to ``place``: it, or the target, is a listener of this process."""
        return self.loops.loop(self, place) if self.loops else None

    def loop_back(self, peer: Place, local: str) -> Refusal | None:
        """Why a connection from the address ``local`` to ``peer`` must not be used: it has reached
        this process, or would ask an exit for it."""
        return self.loops.loop_back(self, peer, local) if self.loops else None

    def refusal(self, reason: Reason, detail: str) -> Refusal:
        """A refusal that names this route."""
        egress = self.egress
        return Refusal(reason, detail, egress.name, egress.family, self.hop[0], self.choice.rule)

    def superseded_refusal(self) -> Refusal:
        """The refusal for a route that the policy changed or dropped meanwhile."""
        what = f"The policy for egress {self.egress.name} changed meanwhile"
        return self.refusal(Reason.DELETED, f"{what}; refusing to egress (fail-closed)")
