"""The system's own look-up: in its order, within its limit, in fixed words; look-ups do not wait
for each other."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from egress_policy.dns import system
from egress_policy.dns.system import CLOSED, SystemResolver
from tests.helpers.system_names import system_resolves

LOCAL = "127.0.0.1"


def answer_with(patch: pytest.MonkeyPatch, outcome: Any) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return [(0, 0, 0, "", (address, 0)) for address in outcome]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)


class Hanging:
    """A system that does not answer for names of ``.hangs`` until it is ``released``."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked = Counter[str]()
        self._ask = socket.getaddrinfo

    def getaddrinfo(self, host: str, *rest: Any, **more: Any) -> Any:
        self.asked[host] += 1
        if host.endswith(".hangs"):
            self.released.wait()
            host = "192.0.2.1"
        return self._ask(host, *rest, **more)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    system_resolves(monkeypatch, {"proxy.test": (LOCAL,)})
    made = Hanging()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.released.set()


async def test_addresses_keep_the_systems_order(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, ["2001:DB8::1", "192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0"])
    answer = await SystemResolver().resolve("proxy.test")
    assert answer.addresses == ("2001:db8::1", "192.0.2.1", "fe80::1%eth0")
    assert (answer.kind, answer.ttl) == ("records", 0.0)


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "a text of the system"),
        OSError(24, "a text of the system"),
        UnicodeError("a text of the codec"),
        RuntimeError("can't start new thread"),
    ],
)
async def test_a_failure_has_fixed_words(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, error)
    answer = await SystemResolver().resolve("proxy.test")
    assert (answer.kind, answer.addresses) == ("failure", ())
    assert answer.cause == "the system's resolver found nothing"


async def test_nothing_found_is_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [])
    assert (await SystemResolver().resolve("proxy.test")).kind == "no_record"


async def test_a_literal_needs_no_look_up(hanging: Hanging) -> None:
    assert (await SystemResolver().resolve("2001:DB8::1")).addresses == ("2001:db8::1",)
    assert not hanging.asked


async def test_look_ups_that_hang_hold_up_no_other(hanging: Hanging) -> None:
    resolver = SystemResolver(limit=0.2)
    # Many more than the threads of the loop's own executor, which are 32 at most.
    names = [f"{number}.hangs" for number in range(100)]
    asked = [asyncio.create_task(resolver.resolve(name)) for name in names]
    answer = await resolver.resolve("proxy.test")
    assert (answer.kind, answer.addresses) == ("records", (LOCAL,))
    late = await asyncio.gather(*asked)
    assert {(one.kind, one.cause) for one in late} == {("timeout", "no answer within 0.2 s")}
    # The loop's own executor, which others use, is free.
    async with asyncio.timeout(5):
        await asyncio.to_thread(lambda: None)


async def test_one_look_up_serves_all_callers_for_a_name(hanging: Hanging) -> None:
    resolver = SystemResolver()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resolver.resolve("one.hangs")  # who leaves ends it for no other
    asked = [asyncio.create_task(resolver.resolve("one.hangs")) for _ in range(20)]
    await asyncio.sleep(0)
    hanging.released.set()
    assert {answer.addresses for answer in await asyncio.gather(*asked)} == {("192.0.2.1",)}
    assert hanging.asked["one.hangs"] == 1
    await resolver.resolve("one.hangs")
    assert hanging.asked["one.hangs"] == 2  # the answer is not kept


async def test_a_look_up_fails_while_too_many_others_hang(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "PATIENCE", 0.1)
    resolver = SystemResolver(at_once=2)
    asked = [asyncio.create_task(resolver.resolve(f"{number}.hangs")) for number in range(2)]
    await asyncio.sleep(0)
    answer = await resolver.resolve("proxy.test")
    assert (answer.kind, answer.cause) == (
        "failure",
        "the system's resolver does not answer 2 other look-ups",
    )
    hanging.released.set()
    await asyncio.gather(*asked)
    assert (await resolver.resolve("proxy.test")).kind == "records"


async def test_many_that_do_not_hang_wait_for_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = SystemResolver(at_once=2)
    names = {f"{number}.test": (LOCAL,) for number in range(50)}
    system_resolves(monkeypatch, names)
    answers = await asyncio.gather(*map(resolver.resolve, names))
    assert {answer.kind for answer in answers} == {"records"}


async def test_closing_answers_pending_look_ups(hanging: Hanging) -> None:
    resolver = SystemResolver()
    asked = asyncio.create_task(resolver.resolve("one.hangs"))
    await asyncio.sleep(0)
    await resolver.aclose()
    assert await asked == CLOSED
    assert await resolver.resolve("proxy.test") == CLOSED
