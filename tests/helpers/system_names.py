"""Sets what the system's resolver answers, in this process."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def system_resolves(patch: pytest.MonkeyPatch, names: Mapping[str, Sequence[str]]) -> None:
    """Let the system resolve these names to these literals, in this order."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        literals = names.get(host, (host,))
        return [found for literal in literals for found in ask(literal, *rest, **more)]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
