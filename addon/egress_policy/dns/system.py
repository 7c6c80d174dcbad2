"""What the system's own resolver answers: both families, in the order of RFC 6724."""

import asyncio
import socket
from typing import Final

from ..log import get_logger
from ..model.host import canonical_ip
from ..policy.preflight import DnsAnswer

logger = get_logger(__name__)

TIMEOUT: Final = 10.0
"""Seconds: what a system asks two silent nameservers for, once each."""


async def resolve_by_system(host: str, limit: float = TIMEOUT) -> DnsAnswer:
    """The addresses that the system would dial for ``host``; never raises.

    They may be used at once and not again (``ttl`` 0).
    """
    try:
        async with asyncio.timeout(limit):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        return DnsAnswer((), 0.0, "timeout", f"no answer within {limit:g} s")
    except (OSError, UnicodeError) as error:
        logger.debug(f"The system's look-up of {host} failed: {error}")
        return DnsAnswer((), 0.0, "failure", "the system's resolver found nothing")
    literals = (canonical_ip(str(place[0])) for *_, place in found)
    addresses = tuple(dict.fromkeys(filter(None, literals)))
    return DnsAnswer(addresses, 0.0, "records" if addresses else "no_record")
