"""The system's own look-up: in its order, in time, in fixed words."""

import asyncio
import socket
from typing import Any

import pytest

from egress_policy.dns.system import resolve_by_system


def answer_with(patch: pytest.MonkeyPatch, outcome: Any) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            await asyncio.Event().wait()
        return [(0, 0, 0, "", (address, 0)) for address in outcome]

    patch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_addresses_keep_the_systems_order(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, ["2001:DB8::1", "192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0"])
    answer = await resolve_by_system("proxy.test")
    assert answer.addresses == ("2001:db8::1", "192.0.2.1", "fe80::1%eth0")
    assert (answer.kind, answer.ttl) == ("records", 0.0)


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "a text of the system"),
        OSError(24, "a text of the system"),
        UnicodeError("a text of the codec"),
    ],
)
async def test_a_failure_is_said_in_fixed_words(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, error)
    answer = await resolve_by_system("proxy.test")
    assert (answer.kind, answer.addresses) == ("failure", ())
    assert "a text of" not in answer.cause


async def test_a_system_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_with(monkeypatch, None)
    assert (await resolve_by_system("proxy.test", limit=0.01)).kind == "timeout"


async def test_nothing_found_is_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [])
    assert (await resolve_by_system("proxy.test")).kind == "no_record"
