"""The policy in force: the snapshot that the router decides by, and what is wrong with it.

It holds what the settings named and what was made of it last. ``opening.py`` opens what settings
name, ``upkeep.py`` takes edits in and makes changes.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from ..log import get_logger
from ..model.rule import Default, Filter, FilterCompiler, Policy
from ..model.words import count
from ..policy.snapshot import Snapshot, build_snapshot
from ..registry.records import RegistryState
from ..router import EgressRouter
from .file_source import FileSource
from .merge import merge
from .registry_source import RegistrySource

if TYPE_CHECKING:
    from ..registry.registry import Registry

logger = get_logger(__name__)

UNCONFIGURED = "the egress policy is not configured"
_CLOSED = Policy(default="refuse")
_NO_FILE = Policy()
_NO_REGISTRY = RegistryState(0, {}, {})
_FILTERS_KEPT = 20_000


class Inputs(NamedTuple):
    """What a snapshot is made of. ``file`` is ``None`` where the policy file was never good,
    ``state`` where there is no registry."""

    file: Policy | None
    state: RegistryState | None
    socks5: bool
    default: Default

    def is_same(self, other: Self) -> bool:
        """Whether both make the same snapshot."""
        same_objects = self.file is other.file and self.state is other.state
        return same_objects and self[2:] == other[2:]


class Made(NamedTuple):
    """A policy made ready, and what it was made of."""

    inputs: Inputs
    policy: Policy
    snapshot: Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What settings name, open and read, and the policy that it makes.

    ``refuse_all_because`` says why everything is refused, whatever the policy says; empty if the
    policy decides.
    """

    file: FileSource
    registry: RegistrySource | None
    socks5: bool
    default: Default
    refuse_all_because: str
    made: Made

    @property
    def inputs(self) -> Inputs:
        """What a snapshot would be made of now."""
        state = self.registry.state if self.registry else None
        return Inputs(self.file.policy, state, self.socks5, self.default)


class PolicyInForce:
    """Owns the snapshot of ``router``. Refuses everything until it ``hold``s what was opened."""

    def __init__(
        self,
        router: EgressRouter,
        compile_filter: FilterCompiler,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.router = router
        self.on_change = on_change
        self.compile_filter: FilterCompiler = functools.lru_cache(_FILTERS_KEPT)(compile_filter)
        self.opened = self.unopened()

    # -- what is in force

    @property
    def snapshot(self) -> Snapshot:
        return self.router.snapshot

    @property
    def policy(self) -> Policy:
        """The policy of file and registry together that the snapshot was made of."""
        return self.opened.made.policy

    @property
    def socks5(self) -> bool:
        return self.opened.socks5

    @property
    def file(self) -> Policy | None:
        """The last good content of the policy file, ``None`` where there never was any."""
        return self.opened.file.policy

    @property
    def file_path(self) -> Path | None:
        return self.opened.file.path

    @property
    def file_error(self) -> str:
        """What is wrong with the last edit of the policy file; empty if it is good."""
        return self.opened.file.error

    @property
    def registry(self) -> "Registry | None":
        return self.opened.registry.registry if self.opened.registry else None

    @property
    def state(self) -> RegistryState | None:
        """What the registry held when it was read last."""
        return self.opened.inputs.state

    @property
    def filed(self) -> Policy:
        """The entries of the policy file; none where it was never good."""
        return self.file or _NO_FILE

    @property
    def stored(self) -> RegistryState:
        """The entries of the registry; none where there is no registry."""
        return self.state or _NO_REGISTRY

    @property
    def registry_error(self) -> str:
        """Why the registry cannot be read at the moment; empty if it can."""
        return self.opened.registry.error if self.opened.registry else ""

    @property
    def problem(self) -> str:
        """Why everything is refused; empty if the policy decides."""
        return self.opened.refuse_all_because or (self.file_error if self.file is None else "")

    @property
    def default_from(self) -> Literal["policy file", "registry", "option"]:
        """Which of them says what a flow takes that no rule matches."""
        if self.file and self.file.default:
            return "policy file"
        return "registry" if self.policy.default and not self.problem else "option"

    @property
    def is_stale(self) -> bool:
        """Whether file or registry hold something else than the snapshot was made of."""
        is_made = self.opened.made.inputs.is_same(self.opened.inputs)
        return not (is_made or self.problem or self.file is None)

    def describe(self) -> str:
        """One line: policy file, registry, how much is in them, and the default."""
        snapshot = self.snapshot
        registry = f", registry {self.registry.name}" if self.registry else ""
        return (
            f"{self.file_path or 'no policy file'}{registry}, "
            f"{count(len(snapshot.proxies), 'proxy', 'proxies')}, "
            f"{count(len(snapshot.rules), 'rule', 'rules')}, default {snapshot.default}"
        )

    # -- making and replacing it

    def make(self, inputs: Inputs) -> Made:
        """Make a snapshot, in any thread. Nothing is replaced. ``inputs`` have a file's policy."""
        if inputs.file is None:
            return _closed(inputs)
        merged = merge(inputs.file, inputs.state, self.compile_filter)
        snapshot = build_snapshot(
            merged.policy,
            self.compile_filter,
            socks5_enabled=inputs.socks5,
            default=inputs.default,
            unusable=merged.unusable,
            previous=self.snapshot,
        )
        return Made(inputs, merged.policy, snapshot)

    def hold(self, opened: Opened, generation: object = None) -> None:
        """Put in force what was opened. ``generation`` is the router's for what was in force
        before and comes back; a new one without it."""
        if opened.refuse_all_because:
            opened = replace(opened, made=_closed(opened.inputs))
        self.opened = opened
        self.router.snapshot = opened.made.snapshot
        if generation is not None:
            self.router.generation = generation

    def put(self, made: Made) -> None:
        """Replace the snapshot, unless it is newer, or everything is refused."""
        if self.is_stale and made.inputs.is_same(self.opened.inputs):
            self.hold(replace(self.opened, made=made))
            self.on_change()

    def refuse_all(self, because: str) -> None:
        """Refuse everything from now on, until something else is opened and held."""
        self.hold(replace(self.opened, refuse_all_because=because))
        self.on_change()

    def unopened(self) -> Opened:
        """What is held before anything is opened: no file, no registry, everything refused."""
        nothing = FileSource(None, self.compile_filter)
        inputs = Inputs(None, None, socks5=True, default="refuse")
        return Opened(nothing, None, inputs.socks5, inputs.default, UNCONFIGURED, _closed(inputs))


def closed_snapshot() -> Snapshot:
    """Refuses everything."""
    return build_snapshot(_CLOSED, _no_filters)


def _closed(inputs: Inputs) -> Made:
    return Made(inputs, _CLOSED, closed_snapshot())


def _no_filters(_: str) -> Filter:
    raise ValueError("there are none")
