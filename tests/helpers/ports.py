"""Ports for programs that cannot be given port 0."""

import random
import socket
from itertools import product

_RANGE = range(20000, 32000)
"""Below the range of ports for outgoing connections."""
_given: set[int] = set()
_chance = random.SystemRandom()
"""A generator of its own: tests seed the global one, and parallel tests seed it equally."""


def free_port() -> int:
    """A port that is free for TCP and UDP in both families, and given out once in this process."""
    while True:
        port = _chance.choice(_RANGE)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    places = (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")
    for (family, host), kind in product(places, (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
        try:
            with socket.socket(family, kind) as sock:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((host, port))
        except OSError:
            return False
    return True
