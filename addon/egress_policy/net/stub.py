"""All contact with dnspython: a stub resolver for stated or system nameservers, and one question.

What DNS does becomes an ``Answer`` within a deadline. Cache and hosts file are ``resolver.py``.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.resolver

from ..errors import InvalidEntry
from ..model.family import FamilyNumber, record_label
from ..model.nameserver import Nameserver
from ..policy.preflight import Answer

logger = logging.getLogger(__name__)

Stub = dns.asyncresolver.Resolver

FAILURE_TTL = 2.0
"""Seconds for which a failure is answered again without asking."""


def stated_stub(servers: Sequence[Nameserver], lifetime: float) -> Stub:
    """Asks ``servers``. ``InvalidEntry`` if one needs an extra that is not installed."""
    stub = Stub(configure=False)
    stub.nameservers = [_build(server) for server in servers]
    return _bounded_stub(stub, lifetime)


def system_stub(path: Path, lifetime: float) -> Stub:
    """Asks the nameservers of ``path``, a resolv.conf(5); its search list is never used.

    Raises ``OSError``, ``ValueError`` or dnspython's ``NoResolverConfiguration``.
    """
    return _bounded_stub(Stub(str(path)), lifetime)


def failure(cause: str) -> Answer:
    """The answer that there is none, for ``cause``."""
    return Answer((), FAILURE_TTL, "failure", cause)


async def ask(stub: Stub, host: str, family: FamilyNumber) -> Answer:
    """The records of ``family`` that ``host`` has, CNAMEs followed within the answer.

    All servers and retries have the ``lifetime`` of the stub. Nothing but cancellation raises.
    """
    try:
        name = dns.name.Name([*host.encode("ascii").split(b"."), b""])
    except (UnicodeEncodeError, dns.exception.DNSException):
        return failure("not a DNS name")
    try:
        async with asyncio.timeout(stub.lifetime):
            return await _ask(stub, name, family)
    except (TimeoutError, dns.resolver.LifetimeTimeout) as error:
        logger.debug("DNS query for %s: %s", host, error)
        cause = f"timed out after {stub.lifetime * 1000:.0f} ms"
        return Answer((), FAILURE_TTL, "timeout", cause)
    except dns.resolver.NoNameservers as error:
        logger.debug("DNS query for %s: %s", host, error)
        outcomes = (outcome for *_, outcome, _ in error.kwargs["errors"])
        return failure(", ".join(dict.fromkeys(map(_word, outcomes))))
    except Exception as error:
        logger.debug("DNS query for %s", host, exc_info=True)
        return failure(_word(error))


async def _ask(stub: Stub, name: dns.name.Name, family: FamilyNumber) -> Answer:
    try:
        found = await stub.resolve(
            name, record_label(family), search=False, raise_on_no_answer=False
        )
    except dns.resolver.NXDOMAIN as error:
        chain = error.kwargs["responses"][name].resolve_chaining()
        return Answer((), _negative_ttl(chain), "failure", "NXDOMAIN")
    if found.rrset is None:
        return Answer((), _negative_ttl(found.chaining_result), "no_record")
    addresses = tuple(record.to_text() for record in found.rrset)
    return Answer(addresses, _bounded(found.chaining_result.minimum_ttl, 3600), "records")


def _bounded_stub(stub: Stub, lifetime: float) -> Stub:
    stub.lifetime = lifetime
    # Time for each server and for one more try: one may be dead, one packet may be lost.
    stub.timeout = lifetime / (len(stub.nameservers) + 1)
    return stub


def _negative_ttl(chain: dns.message.ChainingResult) -> float:
    return _bounded(chain.minimum_ttl, 30)


def _bounded(ttl: int, limit: int) -> float:
    return float(max(1, min(ttl, limit)))


def _word(outcome: object) -> str:
    # Texts of exceptions name nameservers and URLs, which are not for the client that gets the 503.
    return type(outcome).__name__ if isinstance(outcome, Exception) else str(outcome)


def _build(server: Nameserver) -> dns.nameserver.Nameserver:
    if server.transport == "dns":
        return dns.nameserver.Do53Nameserver(server.host, server.port)
    if server.transport == "tls":
        return _DoTNameserver(server.host, server.port, server.name or server.host)
    if not dns.query.have_doh:
        raise InvalidEntry(
            f"Nameserver {server} needs an extra: pip install 'mitmproxy-egress-policy[doh]'",
            "nameserver",
        )
    return dns.nameserver.DoHNameserver(str(server))


class _DoTNameserver(dns.nameserver.DoTNameserver):
    """DNS over TLS that always checks the certificate's name.

    dnspython reads the store of certificates for each query, which holds up the event loop for
    40 ms, and leaves a connection behind whose peer does not answer the end of TLS.
    """

    def __init__(self, address: str, port: int, hostname: str) -> None:
        super().__init__(address, port, hostname)
        self._context = ssl.create_default_context()
        self._context.set_alpn_protocols(["dot"])

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,  # noqa: ASYNC109 - dnspython's signature
        *_: Any,
        **__: Any,
    ) -> dns.message.Message:
        try:
            async with asyncio.timeout(timeout):
                response = dns.message.from_wire(await self._exchange(request.to_wire()))
        except TimeoutError as error:
            raise dns.exception.Timeout from error
        if not request.is_response(response):
            raise dns.query.BadResponse
        return response

    async def _exchange(self, query: bytes) -> bytes:
        """One message each way, with a length before it (RFC 1035 section 4.2.2)."""
        reader, writer = await asyncio.open_connection(
            self.address, self.port, ssl=self._context, server_hostname=self.hostname
        )
        try:
            writer.write(len(query).to_bytes(2) + query)
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        finally:
            writer.transport.abort()
