"""What became of a connection, kept with it, and of a flow, kept in ``flow.metadata``.

Metadata is flat and plain (str, int, float, bool), so that it can be saved and ``~meta`` finds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from mitmproxy import connection, flow

from ..management.one_line import Cut, OneLine, one_line
from ..model.decision import Attempt, Choice, Egress, Pin, Refusal, Route
from ..model.rule import DIRECT
from ..policy.hop import Outcome, peer_family
from ..wire.redact import Redactor
from .dialer import MintedServer

PREFIX = "egress."
LONGEST: Final = 4000
"""Characters of a text that are shown of what a flow carries."""
_MOST: Final = 10**12
"""No time in ms or s, port or count is beyond it."""


@dataclass
class EgressRecord:
    """One logical server connection: the egress it takes, and how it went."""

    egress: Egress | None = None
    choice: Choice | None = None
    pin: Pin | None = None
    peer: connection.Address | None = None
    refusal: Refusal | None = None
    forwards: bool = False
    flows: int = 0
    ended_early: bool = False
    """Set where it had ended before TLS began on it, which tells nothing about the target."""
    hop: MintedServer | None = None
    """The physical connection that it runs over, once that is open."""
    connect_ms: float | None = None
    handshake_ms: float | None = None
    """What it took to reach the first hop, and from then on until the connection was open."""
    ready: float | None = None
    """When it was open, by ``time.monotonic``."""
    route: Route | None = None
    exit: str = ""
    """The address by which targets saw the egress when the connection was asked for."""
    opened: Outcome | None = None
    """What is to be reported of a forwarding proxy once it begins to answer: an open connection
    alone says little."""
    redactor: Redactor | None = None
    """Takes the account of ``egress`` out of what comes over the connection. Made when needed."""
    planned: object = None
    """The policy and target for which ``choice`` was made before the connection was asked for."""

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """A pickled connection takes an empty record along."""
        return type(self), ()


_ATTRIBUTE = "_egress_record"
"""The attribute of a connection that holds its record. A table, even one with weak keys, would keep
both for ever, since the record leads back to the connection. mitmproxy does not save it."""


def record_of(server: connection.Connection) -> EgressRecord | None:
    """The record of a logical server connection, ``None`` if the policy never saw it."""
    return getattr(server, _ATTRIBUTE, None)


def keep(server: connection.Connection, record: EgressRecord) -> EgressRecord:
    setattr(server, _ATTRIBUTE, record)
    return record


def taken_key(server: connection.Server) -> str | None:
    """The key of the egress that a connection leaves by."""
    record = record_of(server)
    return record.egress.key if record and record.egress else None


class FlowRecord(NamedTuple):
    """What a flow carries about its way out: the entries ``egress.use`` and so on of its metadata.

    ``None`` stands for an entry that is missing. ``attempt`` counts the members of the pool that
    were tried, ``tried`` names those that failed, with their reasons. ``planned`` is ``direct`` for
    a refused flow that was to leave directly; of others ``proxy`` says by what they were to leave.
    ``address`` and ``port`` are those that were dialled. ``dns_ms``, ``connect_ms`` and
    ``handshake_ms`` are in ms, ``dns_ttl`` in s; with ``reused`` they tell what the connection took
    when it was opened. ``cut`` says why the flow ended early.
    """

    use: str | None = None
    rule: str | None = None
    proxy: str | None = None
    pool: str | None = None
    strategy: str | None = None
    attempt: int | None = None
    tried: str | None = None
    fault: str | None = None
    family: str | None = None
    address: str | None = None
    port: int | None = None
    peer_family: str | None = None
    exit: str | None = None
    planned: str | None = None
    reused: bool | None = None
    dns_ms: float | None = None
    dns_ttl: float | None = None
    connect_ms: float | None = None
    handshake_ms: float | None = None
    code: str | None = None
    reason: str | None = None
    cut: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> Self:
        """Read the entries. A saved flow may hold anything: an entry of another type is missing, as
        is a number that cannot be, and a text is cut."""
        said: dict[str, Any] = {}
        for key, value in metadata.items():
            if (entry := _ENTRIES.get(key)) and type(value) in entry[1]:
                if isinstance(value, str):
                    said[entry[0]] = value[:LONGEST]
                elif isinstance(value, int | float) and 0 <= value <= _MOST:
                    said[entry[0]] = value
        return cls(**said)

    def to_metadata(self) -> dict[str, str | float | bool]:
        """The entries that are not missing, as they are saved with the flow."""
        return {key: value for key, value in zip(_KEYS, self, strict=True) if value is not None}

    @classmethod
    def of_choice(cls, choice: Choice) -> Self:
        """What the choice for a flow says."""
        egress, refusal = choice.egress, choice.refusal
        proxy = egress.proxy if egress else None
        return cls(
            use="refuse" if egress is None else "proxy" if proxy else "direct",
            rule=choice.rule,
            proxy=proxy.name if proxy else None,
            pool=choice.pool or None,
            strategy=choice.strategy or None,
            attempt=len(choice.tried) + 1 if choice.pool and proxy else None,
            tried=_tried(choice.tried),
            family=egress.family if egress else None,
            code=refusal.code.value if refusal else None,
            reason=refusal.reason.value if refusal else None,
        )

    @classmethod
    def of_connection(cls, connection: EgressRecord) -> Self:
        """What the connection says that carries the flow."""
        peer, pin, choice = connection.peer, connection.pin, connection.choice
        first = connection.flows == 0
        tried = choice.tried if choice and first else ()
        return cls(
            attempt=len(tried) + 1 if tried else None,
            tried=_tried(tried),
            address=peer[0] if peer else None,
            port=peer[1] if peer else None,
            peer_family=peer_family(peer[0]) if peer else None,
            exit=connection.exit or None,
            dns_ms=pin.dns_ms if pin else None,
            dns_ttl=pin.ttl if pin else None,
            connect_ms=connection.connect_ms,
            handshake_ms=connection.handshake_ms,
            reused=not first,
        )

    @classmethod
    def of_refusal(cls, refusal: Refusal) -> Self:
        """What the refusal of a flow says. A name that may be that of a pool is left out."""
        name = refusal.proxy if refusal.names_egress else ""
        return cls(
            proxy=name if name not in ("", DIRECT) else None,
            planned=DIRECT if name == DIRECT else None,
            code=refusal.code.value,
            reason=refusal.reason.value,
            attempt=len(refusal.tried) or None,
            tried=_tried(refusal.tried),
            fault=refusal.fault or None,
        )


def _tried(attempts: Sequence[Attempt]) -> str | None:
    return ", ".join(f"{one.proxy}:{one.reason.value}" for one in attempts) or None


_NUMBER: Final = (int, float)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "reused": (bool,),
    "attempt": (int,),
    "port": (int,),
    "dns_ms": _NUMBER,
    "dns_ttl": _NUMBER,
    "connect_ms": _NUMBER,
    "handshake_ms": _NUMBER,
}
_ENTRIES: Final = {PREFIX + name: (name, _TYPES.get(name, (str,))) for name in FlowRecord._fields}
"""Name and types of each entry, by its key in the metadata."""
_KEYS: Final = list(_ENTRIES)
_CUT: Final = PREFIX + "cut"


def without_record(metadata: Mapping[str, object]) -> dict[str, object]:
    """The entries of a flow's metadata about other things."""
    return {key: value for key, value in metadata.items() if not key.startswith(PREFIX)}


def line_of(f: flow.Flow) -> OneLine | None:
    """Which way a flow left, or why it did not, ``None`` if no policy decided about it."""
    record = FlowRecord.from_metadata(f.metadata)
    return one_line(record, record.port)


def clear_record(f: flow.Flow) -> None:
    """Remove what a flow carries from an earlier time: rules must not see it. A comment that only
    repeats it goes too."""
    if f.comment and f.comment == str(line_of(f)):
        f.comment = ""
    for key in [key for key in f.metadata if key.startswith(PREFIX)]:
        del f.metadata[key]


def write_choice(f: flow.Flow, choice: Choice) -> None:
    """Start a flow's record afresh with what was decided for it."""
    clear_record(f)
    _add(f, FlowRecord.of_choice(choice))


def write_connection(f: flow.Flow, server: connection.Connection) -> None:
    """Add what is known of the connection that carries the flow."""
    if record := record_of(server):
        _add(f, FlowRecord.of_connection(record))
        record.flows += 1


def write_refusal(f: flow.Flow, refusal: Refusal) -> None:
    """Add why the flow was refused."""
    _add(f, FlowRecord.of_refusal(refusal))


def write_cut(f: flow.Flow, why: Cut) -> None:
    """Add why the flow ends early, unless that is known or it was refused."""
    said = f.metadata
    if PREFIX + "use" in said and PREFIX + "code" not in said:
        said.setdefault(_CUT, why)


def write_whole(f: flow.Flow) -> None:
    """Note that the flow has come to its own end, perhaps although it was to be cut."""
    f.metadata.pop(_CUT, None)


def write_stream(f: flow.Flow, server: connection.Connection) -> None:
    """Write the whole record of a flow that has its connection to itself (raw TCP, UDP, DNS)."""
    record = record_of(server)
    if record is None or record.choice is None:
        return
    write_choice(f, record.choice)
    record.flows = 0
    write_connection(f, server)
    if record.refusal:
        write_refusal(f, record.refusal)
    if record.hop and record.hop.cut_by:
        write_cut(f, record.hop.cut_by)


def _add(f: flow.Flow, record: FlowRecord) -> None:
    f.metadata.update(record.to_metadata())
