"""Pre-flight: which addresses may be dialled for a host under a family directive.

Pure: ``plan`` checks literals and says what has to be asked, ``judge`` turns the answer into a
``Pin`` or a ``Refusal``. The question itself is asked by ``dns/resolver.py``.
Rules: OmniRoute, *How ipv4 / ipv6 Are Enforced*; an IPv4-mapped IPv6 address is IPv4.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from ..errors import EgressError, Reason
from ..model.decision import Pin, Refusal
from ..model.family import FamilyNumber, ProxyFamily, family_label, record_label
from ..model.host import (
    Party,
    canonical_ip,
    connect_family,
    detect_ip_literal_family,
    is_unspecified,
)
from ..sentence import Sentence
from .fail_closed import fail_closed
from .hop import interleave

_NO_ADDRESS: Final = Sentence("dns_no_address", "no usable address")
_FULL_NAME: Final = Sentence(
    "dns_full_name",
    "; pinned names are looked up without the search list of resolv.conf: write the full name",
)


@dataclass(frozen=True, slots=True)
class Query:
    """A question for DNS: the A (4) or AAAA (6) records of ``host``. ``party`` has that host."""

    host: str
    family: FamilyNumber
    party: Party = "Proxy"


@dataclass(frozen=True, slots=True)
class SystemQuery:
    """A question for the system's resolver: all addresses that it would dial, in its order."""

    host: str
    family: None = None


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """The answer to a ``Query``. It may be given again for ``ttl`` seconds.

    ``addresses`` is as received: unfiltered, and empty unless ``kind`` is ``records``. ``cause``
    says in fixed words why there are none, since it reaches the client. ``from_hosts`` says
    whether the hosts file has the name.
    """

    addresses: tuple[str, ...]
    ttl: float
    kind: Literal["records", "no_record", "failure", "timeout"]
    cause: str = ""
    elapsed_ms: float = 0.0
    from_cache: bool = False
    from_hosts: bool = False


class Resolver(Protocol):
    """Answers a ``Query``. A failure of DNS is a ``DnsAnswer`` too; nothing is raised for it."""

    async def resolve(self, host: str, family: FamilyNumber | None) -> DnsAnswer: ...


class KnowingResolver(Resolver, Protocol):
    """A resolver that also answers from memory alone: ``None`` if it has no answer there."""

    def known(self, host: str, family: FamilyNumber | None) -> DnsAnswer | None: ...


def plan(host: str, family: ProxyFamily, party: Party = "Proxy") -> Pin | Query | Refusal:
    """What ``family`` means for ``host`` before DNS is asked; a refusal names ``party``.

    A literal is pinned as it is, or refused: ``LITERAL_CONTRADICTION``, also for the unspecified
    address, which names no host. A host name under ``auto`` is not pinned. Any other host name
    needs a query.
    """
    try:
        number = connect_family(host, family, party)
    except EgressError as error:
        return Refusal(Reason(error.reason), error.text, family=family, host=host)
    if literal := canonical_ip(host):
        if is_unspecified(literal):
            why = Sentence("unspecified", "The unspecified address names no host")
            return Refusal(Reason.LITERAL_CONTRADICTION, fail_closed(why), family=family, host=host)
        return Pin((literal,), number)
    return Pin((host,), None) if number is None else Query(host, number, party)


def judge(query: Query, answer: DnsAnswer) -> Pin | Refusal:
    """The addresses of ``answer`` that may be dialled, in its order, or why there are none.

    Addresses of another family (IPv4-mapped addresses are IPv4), the unspecified address and
    repetitions are dropped. Reasons: ``DNS_FAILURE``, ``DNS_TIMEOUT``, ``MAPPED_ADDRESS`` if all
    addresses are mapped, ``NO_RECORD``.
    """
    host, label = query.host, family_label(query.family)
    if answer.kind in ("failure", "timeout"):
        reason = Reason.DNS_TIMEOUT if answer.kind == "timeout" else Reason.DNS_FAILURE
        return _refusal(query, reason, _failed(host, answer.cause, _hint(host, answer)))
    pinned = tuple(
        dict.fromkeys(
            literal
            for address in answer.addresses
            if (literal := canonical_ip(address))
            and detect_ip_literal_family(literal) == query.family
            and not is_unspecified(literal)
        )
    )
    if pinned:
        return Pin(pinned, query.family, answer.ttl, answer.elapsed_ms)
    mapped = bool(answer.addresses) and all(map(_is_mapped, answer.addresses))
    reason = Reason.MAPPED_ADDRESS if mapped else Reason.NO_RECORD
    record, hint = record_label(query.family), _hint(host, answer)
    detail = (
        Sentence(
            "dns_only_mapped",
            "{party} host {host} has only IPv4-mapped addresses in its {label} ({record}) record; "
            "refusing {label}-only egress (fail-closed){hint}",
            party=query.party,
            host=host,
            label=label,
            record=record,
            hint=hint,
        )
        if mapped
        else Sentence(
            "dns_no_record",
            "{party} host {host} has no {label} ({record}) record; "
            "refusing {label}-only egress (fail-closed){hint}",
            party=query.party,
            host=host,
            label=label,
            record=record,
            hint=hint,
        )
    )
    return _refusal(query, reason, detail)


def _hint(host: str, answer: DnsAnswer) -> str:
    """What to do about a name that the system would complete from its search list."""
    if "." in host or answer.from_hosts or answer.kind == "timeout":
        return ""
    return _FULL_NAME


def _failed(host: str, cause: str, hint: str = "") -> Sentence:
    failed = "DNS resolution failed for {host}; refusing to egress (fail-closed): {cause}{hint}"
    return Sentence("dns_failed", failed, host=host, cause=cause, hint=hint)


def judge_by_system(query: SystemQuery, answer: DnsAnswer) -> Pin | Refusal:
    """The addresses that the system found, in the order in which to try them."""
    host = query.host
    usable = (canonical_ip(address) for address in answer.addresses)
    addresses = interleave(each for each in usable if each and not is_unspecified(each))
    if addresses:
        return Pin(addresses, None, dns_ms=answer.elapsed_ms)
    reason = Reason.DNS_TIMEOUT if answer.kind == "timeout" else Reason.DNS_FAILURE
    return Refusal(reason, _failed(host, answer.cause or _NO_ADDRESS), host=host)


def _refusal(query: Query, reason: Reason, detail: str) -> Refusal:
    family: ProxyFamily = "ipv4" if query.family == 4 else "ipv6"
    tagged = Sentence("proxy_family", "[ProxyFamily] {what}", what=detail)
    return Refusal(reason, tagged, family=family, host=query.host)


def _is_mapped(address: str) -> bool:
    return ":" in address and detect_ip_literal_family(address) == 4
