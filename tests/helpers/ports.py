"""Ports for those who cannot be given port 0."""

import random
import socket
from itertools import product

_RANGE = range(20000, 32000)
"""Below that from which outgoing connections are numbered."""
_given: set[int] = set()
_chance = random.SystemRandom()
"""Tests seed the other one, and those that run side by side seed it alike."""


def free_port() -> int:
    """Free for TCP and UDP on both families, and given to nobody else in this process."""
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
