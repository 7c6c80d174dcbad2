"""What a pool would do: so many flows, and the same again after members are lost. Pure.

Nothing is dialled and no clock runs. Every proxy is taken to be equally fast, and to keep a few
connections open; keys are made up.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from random import Random
from typing import Final

from pydantic import ValidationError

from ..errors import InvalidEntry
from ..model.decision import Egress, Members, Target
from ..model.pool import Pool
from ..model.proxy import Proxy
from ..policy.condition import AlwaysAvailable
from ..policy.selection import PoolPicker
from .pools import PoolView
from .proxies import ProxyView
from .views import View

_OPEN: Final = 4
"""Connections that are open at a time, for each member."""
_PARTS: Final = {"name", "members", "strategy", "sticky_by", "sticky_minutes", "seed"}


class MemberShare(View):
    """How often a member is picked. ``expected`` and shares are parts of 1.

    What has ``after`` in its name is about the flows after members were lost, ``None`` if none is.
    ``moved_away`` and ``moved_here`` count the keys of a sticky pool that change their member then.
    """

    name: str
    weight: int
    expected: float
    picked: int
    share: float
    picked_after: int | None = None
    share_after: float | None = None
    moved_away: int | None = None
    moved_here: int | None = None


class Simulation(View):
    """What came of it. Each of the ``flows`` has a key of its own.

    ``unusable`` are the members that are inactive or deleted, which no flow is given.
    ``refused`` and ``refused_after`` count the flows for which there was no member.
    """

    pool: str
    strategy: str
    flows: int
    killed: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    members: tuple[MemberShare, ...] = ()
    refused: int = 0
    refused_after: int | None = None


def simulate(
    view: PoolView, proxies: Iterable[ProxyView], flows: int, killed: Collection[str] = ()
) -> Simulation:
    """Pick for ``flows`` flows, and again without the members ``killed``.

    The same pool gives the same answer each time, also without a seed. Raises ``InvalidEntry``
    (fields "kill", "pool") for members that the pool does not have, and for a pool that cannot be
    used.
    """
    pool = _pool(view)
    if strange := [name for name in killed if name not in pool.names]:
        what = f"Pool {pool.name} has no member {strange[0]!r}; `pools show` lists its members"
        raise InvalidEntry(what, "kill")
    active = {proxy.name for proxy in proxies if proxy.status == "active" and not proxy.problem}
    usable = [member for member in pool.members if member.name in active]
    members = Members(
        (Egress(Proxy(name=member.name, host="simulated.invalid")) for member in usable),
        (member.weight for member in usable),
    )
    state = _Simulated()
    picker = PoolPicker(state, random=Random(0), clock=lambda: 0.0)  # noqa: S311 (no secret)
    before = list(_picks(picker, pool, members, state, flows))
    state.lost.update(killed)
    after = list(_picks(picker, pool, members, state, flows)) if killed else []
    return Simulation(
        pool=pool.name,
        strategy=pool.strategy,
        flows=flows,
        killed=tuple(dict.fromkeys(killed)),
        unusable=tuple(name for name in pool.names if name not in active),
        members=tuple(_shares(pool, members, before, after)),
        refused=before.count(""),
        refused_after=after.count("") if killed else None,
    )


class _Simulated(AlwaysAvailable):
    """The condition of the members: some are lost, and each has some connections."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.connections: Counter[str] = Counter()

    def is_available(self, egress: Egress) -> bool:
        return egress.name not in self.lost

    def active(self, egress: Egress) -> int:
        return self.connections[egress.name]


def _picks(
    picker: PoolPicker, pool: Pool, members: Members, state: _Simulated, flows: int
) -> Iterator[str]:
    """The member of each flow, empty where there is none. A flow ends when some more have begun."""
    still_open: deque[str] = deque()
    state.connections.clear()
    for number in range(flows):
        picked = picker.pick(pool, members, Target("a.example", 443, f"key-{number}"))
        name = picked.name if isinstance(picked, Egress) else ""
        state.connections[name] += 1
        still_open.append(name)
        if len(still_open) > _OPEN * len(members):
            state.connections[still_open.popleft()] -= 1
        yield name


def _shares(
    pool: Pool, members: Members, before: list[str], after: list[str]
) -> Iterator[MemberShare]:
    total, flows = sum(members.weights), len(before)
    picked, picked_after = Counter(before), Counter(after)
    moved = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
    left, came = Counter(old for old, _ in moved), Counter(new for _, new in moved)
    for member, weight in zip(members, members.weights, strict=True):
        name = member.name
        known = {
            "name": name,
            "weight": weight,
            "expected": weight / total,
            "picked": picked[name],
            "share": picked[name] / flows,
        }
        if after:
            known |= {"picked_after": picked_after[name], "share_after": picked_after[name] / flows}
        if after and pool.strategy == "sticky":
            known |= {"moved_away": left[name], "moved_here": came[name]}
        yield MemberShare.model_validate(known)


def _pool(view: PoolView) -> Pool:
    """The pool of a view. Its keys are made up, so that it does not matter where they come from."""
    try:
        return Pool.model_validate(view.model_dump(include=_PARTS))
    except ValidationError as error:
        problem = f"Pool {view.name} cannot be used: {view.problem or 'it is not valid'}"
        raise InvalidEntry(problem, "pool") from error
