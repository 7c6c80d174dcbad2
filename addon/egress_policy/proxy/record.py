"""What became of a connection and a flow: kept with connections, written to ``flow.metadata``.

Metadata is flat and plain (str, int, float, bool), so that it can be saved and ``~meta`` finds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from mitmproxy import connection, flow

from ..model.decision import Choice, Egress, Pin, Refusal
from ..wire.redact import Redactor
from .dialer import MintedServer

PREFIX = "egress."


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
    """Set where it had ended before TLS began on it, which says nothing of the target."""
    hop: MintedServer | None = None
    """The physical connection that it runs over, once that is open."""
    redactor: Redactor | None = None
    """Made when it is needed: takes the account of ``egress`` out of what comes over it."""
    planned: object = None
    """What ``choice`` was made for before the connection was asked for; ``None`` if it was not."""

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """A connection that leaves the process, in a pickle, takes nothing of it along."""
        return type(self), ()


_ATTRIBUTE = "_egress_record"
"""Where a connection has its record: it leads back to the connection, so that a table, even one
with weak keys, would keep both for ever. mitmproxy saves the fields of connections alone."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRecord:
    """What a flow says of its way out, as ``egress.use`` and so on; empty where it says nothing.

    Times are in ms and s. A saved flow may say anything.
    """

    use: str = ""
    rule: str = ""
    proxy: str = ""
    pool: str = ""
    family: str = ""
    address: str = ""
    peer_family: str = ""
    reused: bool | None = None
    dns_ms: float | None = None
    dns_ttl: float | None = None
    code: str = ""
    reason: str = ""

    @classmethod
    def of(cls, f: flow.Flow) -> Self:
        return cls(**values_of(f))


_NAMES = {PREFIX + one.name: one.name for one in fields(FlowRecord)}


def values_of(f: flow.Flow) -> dict[str, Any]:
    """What a flow says of its way out, by the names of ``FlowRecord``."""
    metadata = f.metadata
    return {name: metadata[key] for key, name in _NAMES.items() if key in metadata}


def without_record(metadata: Mapping[str, object]) -> dict[str, object]:
    """What a flow says of other things."""
    return {key: value for key, value in metadata.items() if not key.startswith(PREFIX)}


def clear_record(f: flow.Flow) -> None:
    """Forget what a flow's metadata says of the time before: rules must not see it."""
    for key in [key for key in f.metadata if key.startswith(PREFIX)]:
        del f.metadata[key]


def write_choice(f: flow.Flow, choice: Choice) -> None:
    """Start a flow's record afresh with what was decided for it."""
    clear_record(f)
    egress = choice.egress
    _write(f, rule=choice.rule, pool=choice.pool or None)
    if egress is None:
        _write(f, use="refuse")
    else:
        proxy = egress.proxy.name if egress.proxy else None
        use = "proxy" if egress.proxy else "direct"
        _write(f, use=use, proxy=proxy, family=egress.family)
    if choice.refusal:
        write_refusal(f, choice.refusal)


def write_connection(f: flow.Flow, server: connection.Connection) -> None:
    """Add what is known of the connection that carries the flow."""
    record = record_of(server)
    if record is None:
        return
    if record.peer:
        address = record.peer[0]
        _write(f, address=address, peer_family="ipv6" if ":" in address else "ipv4")
    if record.pin:
        _write(f, dns_ms=record.pin.dns_ms, dns_ttl=record.pin.ttl)
    _write(f, reused=record.flows > 0)
    record.flows += 1


def write_stream(f: flow.Flow, server: connection.Connection) -> None:
    """The whole record of a flow that has its connection to itself (raw TCP, UDP, DNS)."""
    record = record_of(server)
    if record is None or record.choice is None:
        return
    write_choice(f, record.choice)
    record.flows = 0
    write_connection(f, server)
    if record.refusal:
        write_refusal(f, record.refusal)


def write_refusal(f: flow.Flow, refusal: Refusal) -> None:
    _write(f, code=refusal.code.value, reason=refusal.reason.value)


def _write(f: flow.Flow, **values: str | float | bool | None) -> None:
    for key, value in values.items():
        if value is not None:
            f.metadata[PREFIX + key] = value
