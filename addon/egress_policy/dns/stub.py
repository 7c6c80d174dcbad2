"""All contact with dnspython: a stub resolver for configured or system nameservers.

Every outcome becomes a ``DnsAnswer`` within a deadline, worded here; the texts of dnspython and the
system go to the log. ``resolver.py`` has the cache and the hosts file.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.resolver

from ..errors import InvalidEntry
from ..files.reread import Reread
from ..log import get_logger
from ..model.family import FamilyNumber, record_label
from ..model.nameserver import Nameserver
from ..policy.hop import OUT_OF_DESCRIPTORS, lacks_descriptor
from ..policy.preflight import DnsAnswer
from ..sentence import Sentence
from .resolv_conf import ResolvConf, parse_resolv_conf

logger = get_logger(__name__)

FAILURE_TTL: Final = 2.0
"""Seconds for which a failure is repeated without asking again."""

UNREADABLE: Final = Sentence(
    "dns_unreadable", "the list of the system's nameservers cannot be read"
)
NOT_A_NAME: Final = Sentence("dns_no_name", "not a DNS name")
NO_SUCH_NAME: Final = Sentence("dns_nxdomain", "the name does not exist (NXDOMAIN)")
_RCODES: Final = {
    "SERVFAIL": Sentence("dns_servfail", "the nameserver failed (SERVFAIL)"),
    "REFUSED": Sentence("dns_refused", "the nameserver refused the question (REFUSED)"),
    "FORMERR": Sentence("dns_formerr", "the nameserver did not understand the question (FORMERR)"),
    "NOTIMP": Sentence("dns_notimp", "the nameserver does not answer such questions (NOTIMP)"),
}
_OTHER_RCODE: Final = Sentence("dns_rcode", "the nameserver answered with an error")
_LATE: Final = Sentence("dns_late", "the nameserver did not answer in time")
_EXCEPTIONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (
        ssl.SSLCertVerificationError,
        Sentence("dns_certificate", "the nameserver's certificate is not valid for it"),
    ),
    (ssl.SSLError, Sentence("dns_tls", "TLS with the nameserver failed")),
    (dns.exception.Timeout, _LATE),
    (TimeoutError, _LATE),
    (EOFError, Sentence("dns_closed", "the nameserver closed the connection without an answer")),
    (OSError, Sentence("dns_unreached", "no nameserver could be reached")),
    (
        dns.exception.DNSException,
        Sentence("dns_answer", "the nameserver's answer cannot be understood"),
    ),
)
"""Words for an exception; the first matching type counts."""
UNEXPECTED: Final = Sentence("dns_unexpected", "an unexpected error, which the log describes")

_DESCRIBED: Final = 3
"""How many problems of a resolv.conf one warning describes."""


class Stub(dns.asyncresolver.Resolver):
    """Nameservers and how to ask them. ``tcp`` means over TCP only."""

    tcp: bool = False


def configured_stub(servers: Sequence[Nameserver], lifetime: float) -> Stub:
    """A stub that asks ``servers``. Raises ``InvalidEntry`` if an extra for one is missing."""
    return _stub([_build(server) for server in servers], lifetime)


def system_stub(conf: ResolvConf, lifetime: float, port: int = 53) -> Stub:
    """A stub that asks the servers of ``conf`` as its options say, within ``lifetime`` seconds."""
    servers = [dns.nameserver.Do53Nameserver(server, port) for server in conf.servers]
    stub = _stub(servers, lifetime)
    stub.timeout = min(stub.timeout, conf.timeout)
    stub.lifetime = min(lifetime, conf.timeout * conf.attempts * len(servers))
    stub.rotate = conf.rotate
    stub.tcp = conf.tcp
    return stub


class SystemStub:
    """The stub for the nameservers of ``path``, a resolv.conf(5); a new stub when it changes.

    A missing file is an empty one, as for the C library. Each set of problems is logged once.
    """

    def __init__(self, path: Path, lifetime: float, port: int = 53) -> None:
        self._path = path
        self._lifetime = lifetime
        self._port = port
        self._file = Reread(path, self._read)
        self._known: tuple[bytes, Stub] | None = None
        self._complaint = ""

    def get(self) -> Stub:
        """The same stub while the content is the same. Raises ``OSError``."""
        return self._file.get()

    def _read(self, path: Path) -> Stub:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            self._complain(f"The system's nameservers cannot be read: {error}")
            raise
        if self._known is None or self._known[0] != content:
            conf = parse_resolv_conf(content)
            self._complain(self._problems(conf))
            self._known = content, system_stub(conf, self._lifetime, self._port)
        return self._known[1]

    def _problems(self, conf: ResolvConf) -> str:
        if not conf.problems:
            return ""
        what = "; ".join(conf.problems[:_DESCRIBED])
        if (more := len(conf.problems) - _DESCRIBED) > 0:
            what += f"; {more} more"
        servers = ", ".join(conf.servers)
        return f"{self._path}: {what}. Pinned names are looked up at {servers}"

    def _complain(self, what: str) -> None:
        # An unreadable file is tried again for every flow.
        if what and what != self._complaint:
            logger.warning(what)
        self._complaint = what


def failure(cause: str) -> DnsAnswer:
    """A failed answer with its ``cause``."""
    return DnsAnswer((), FAILURE_TTL, "failure", cause)


async def ask(stub: Stub, host: str, family: FamilyNumber) -> DnsAnswer:
    """The records of ``family`` for ``host``, with CNAMEs followed within the answer.

    The stub's ``lifetime`` covers all servers and retries. Raises nothing but cancellation.
    """
    try:
        name = dns.name.Name([*host.encode("ascii").split(b"."), b""])
    except (UnicodeEncodeError, dns.exception.DNSException):
        return failure(NOT_A_NAME)
    try:
        async with asyncio.timeout(stub.lifetime):
            return await _ask(stub, name, family)
    except (TimeoutError, dns.resolver.LifetimeTimeout) as error:
        logger.debug("DNS query for %s: %s", host, error)
        late = "timed out after {ms} ms"
        cause = Sentence("dns_timed_out", late, ms=f"{stub.lifetime * 1000:.0f}")
        return DnsAnswer((), FAILURE_TTL, "timeout", cause)
    except dns.resolver.NoNameservers as error:
        outcomes = [outcome for *_, outcome, _ in error.kwargs["errors"]]
        return _failed(host, error, outcomes)
    except Exception as error:  # noqa: BLE001 - logged, and the flow is refused
        return _failed(host, error, [error])


async def _ask(stub: Stub, name: dns.name.Name, family: FamilyNumber) -> DnsAnswer:
    try:
        found = await stub.resolve(
            name, record_label(family), tcp=stub.tcp, search=False, raise_on_no_answer=False
        )
    except dns.resolver.NXDOMAIN as error:
        chain = error.kwargs["responses"][name].resolve_chaining()
        return DnsAnswer((), _bounded(chain.minimum_ttl, 30), "failure", NO_SUCH_NAME)
    if found.rrset is None:
        return DnsAnswer((), _bounded(found.chaining_result.minimum_ttl, 30), "no_record")
    addresses = tuple(record.to_text() for record in found.rrset)
    return DnsAnswer(addresses, _bounded(found.chaining_result.minimum_ttl, 3600), "records")


def _stub(servers: Sequence[dns.nameserver.Nameserver], lifetime: float) -> Stub:
    stub = Stub(configure=False)
    stub.nameservers = list(servers)
    stub.lifetime = lifetime
    # One server may be dead and one packet lost: leave time for each server and one retry.
    stub.timeout = lifetime / (len(servers) + 1)
    return stub


def _bounded(ttl: int, limit: int) -> float:
    return float(max(1, min(ttl, limit)))


def _failed(host: str, error: Exception, outcomes: Sequence[object]) -> DnsAnswer:
    """A failure for ``outcomes``, one per server; the details go to the log."""
    causes = [*dict.fromkeys(map(_words, outcomes))]
    cause = Sentence("dns_causes", "{causes}", causes=causes)
    level = logging.WARNING if UNEXPECTED in cause else logging.DEBUG
    logger.log(level, "DNS query for %s: %s", host, error, exc_info=level == logging.WARNING)
    return failure(cause)


def _words(outcome: object) -> str:
    """Words for an rcode or an exception. They contain no nameserver and no URL."""
    if not isinstance(outcome, Exception):
        return _RCODES.get(str(outcome), _OTHER_RCODE)
    if isinstance(outcome, OSError) and lacks_descriptor(outcome.errno):
        return OUT_OF_DESCRIPTORS.what  # no nameserver was even asked
    return next((words for type_, words in _EXCEPTIONS if isinstance(outcome, type_)), UNEXPECTED)


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

    dnspython would read the certificate store for each query, which blocks the event loop for
    40 ms, and would leak a connection whose peer does not answer the end of TLS.
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
        """Exchange one message each way, each with a length prefix (RFC 1035 section 4.2.2)."""
        reader, writer = await asyncio.open_connection(
            self.address, self.port, ssl=self._context, server_hostname=self.hostname
        )
        try:
            writer.write(len(query).to_bytes(2) + query)
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        finally:
            writer.transport.abort()
