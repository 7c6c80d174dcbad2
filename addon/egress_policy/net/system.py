"""What the system's own resolver answers: both families, in the order of RFC 6724."""

import asyncio
import socket

from ..model.host import canonical_ip
from ..policy.preflight import Answer


async def resolve_by_system(host: str) -> Answer:
    """The addresses that the system would dial for ``host``; never raises.

    They may be used at once and not again (``ttl`` 0). ``cause`` is what the system says.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Answer((), 0.0, "failure", getattr(error, "strerror", None) or "not a host name")
    literals = (canonical_ip(str(place[0])) for *_, place in found)
    addresses = tuple(dict.fromkeys(filter(None, literals)))
    return Answer(addresses, 0.0, "records" if addresses else "no_record")
