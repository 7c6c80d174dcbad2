"""Answers of the system's own resolver: both families, in the order of RFC 6724.

Such a look-up may block a thread for a minute and more. So each name has at most one look-up under
way, however many callers wait for it, and nothing else waits for its thread.
"""

import asyncio
import socket
from typing import Final

from ..log import get_logger
from ..model.host import canonical_ip
from ..policy.preflight import DnsAnswer
from ..sentence import Sentence
from ..threads import Threads, TooManyHang

logger = get_logger(__name__)

TIMEOUT: Final = 10.0
"""Seconds: how long a system tries two silent nameservers, once each."""
AT_ONCE: Final = 128
"""Names that are looked up together. A further name waits ``PATIENCE`` seconds, then fails."""
PATIENCE: Final = 1.0
"""Seconds. Look-ups that are merely many finish sooner."""
_NOTHING: Final = Sentence("dns_system_nothing", "the system's resolver found nothing")
CLOSED: Final = DnsAnswer(
    (), 0.0, "failure", Sentence("dns_resolver_closed", "the resolver was closed")
)


class SystemResolver:
    """Asks the system. A caller waits up to ``limit`` seconds; the look-up itself goes on, and
    later callers for the same name join it. At most ``at_once`` look-ups are under way."""

    def __init__(self, limit: float = TIMEOUT, at_once: int = AT_ONCE) -> None:
        self._limit = limit
        self._at_once = at_once
        self._slots = asyncio.Semaphore(at_once)
        self._threads = Threads("egress-look-up", at_once)
        self._flights: dict[str, asyncio.Task[DnsAnswer]] = {}
        self._closed = False

    async def resolve(self, host: str) -> DnsAnswer:
        """The addresses that the system would dial for ``host``; never raises.

        The addresses may be used at once but not kept (``ttl`` 0).
        """
        if literal := canonical_ip(host):
            return DnsAnswer((literal,), 0.0, "records")
        if self._closed:
            return CLOSED
        flight = self._flights.get(host)
        if flight is None:
            flight = asyncio.create_task(self._fly(host), name=f"egress look-up {host}")
            self._flights[host] = flight
            flight.add_done_callback(lambda _: self._flights.pop(host, None))
        # Awaiting the flight directly would cancel it together with one of its callers.
        await asyncio.wait({flight}, timeout=self._limit)
        if not flight.done():
            late = "no answer within {seconds} s"
            cause = Sentence("dns_no_answer", late, seconds=f"{self._limit:g}")
            return DnsAnswer((), 0.0, "timeout", cause)
        return CLOSED if flight.cancelled() else flight.result()

    async def aclose(self) -> None:
        """Cancel what is under way. Pending and later questions are answered with a failure."""
        self._closed = True
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, host: str) -> DnsAnswer:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._slots.acquire()
        except TimeoutError:
            return self._busy()
        try:
            found = await self._threads.run(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        except TooManyHang:
            return self._busy()
        except (OSError, UnicodeError, RuntimeError) as error:  # RuntimeError: no thread available
            logger.debug(f"The system's look-up of {host} failed: {error}")
            return DnsAnswer((), 0.0, "failure", _NOTHING)
        finally:
            self._slots.release()
        literals = (canonical_ip(str(place[0])) for *_, place in found)
        addresses = tuple(dict.fromkeys(filter(None, literals)))
        return DnsAnswer(addresses, 0.0, "records" if addresses else "no_record")

    def _busy(self) -> DnsAnswer:
        busy = "the system's resolver does not answer {count} other look-ups"
        cause = Sentence("dns_system_busy", busy, count=self._at_once)
        return DnsAnswer((), 0.0, "failure", cause)
