"""What the system's resolver says of names, in this process."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def system_resolves(patch: pytest.MonkeyPatch, names: Mapping[str, Sequence[str]]) -> None:
    """Let the system find these literals for these names, in this order."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        literals = names.get(host, (host,))
        return [found for literal in literals for found in ask(literal, *rest, **more)]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
