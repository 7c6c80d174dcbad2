"""An exception, or a cancellation, at every single await between a client and its exit."""

import asyncio
import gc
import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from types import CoroutineType
from typing import Any

import pytest

from tests.helpers.client_paths import WAYS, attempt, strategy_of, target_of
from tests.helpers.lab import tls_for, zone
from tests.helpers.nameserver import Nameserver
from tests.helpers.proxies import HttpProxy
from tests.helpers.scene import egress
from tests.helpers.server import Stream

type Coroutine = CoroutineType[Any, Any, Any]
EXIT = "127.0.0.9"
"""The client address that the origin sees for traffic through the proxy."""
ROOTS = ("mitmproxy", "egress_policy")
LOOK_UP = "DnsResolver._fly"
ANSWERED = {LOOK_UP, "ConnectionHandler.open_connection"}
"""Code of this project: if it breaks, a client still gets its end. Other code runs in mitmproxy's
tasks that serve the client itself; there, nothing may leak."""


class Exit(HttpProxy):
    async def dial(self, host: str, port: int) -> Stream:
        return await asyncio.open_connection(host, port, local_addr=(EXIT, 0))


class Injector:
    """Raises at the ``at``-th await of all tasks that mitmproxy or the addon start.

    Awaits are counted if a task really stops to wait. ``hit`` is the coroutine it happened in, and
    ``broken`` is its task.
    """

    def __init__(self, kind: str, way: str) -> None:
        self.kind = kind
        self.only = ANSWERED if way == "replay" else None  # else mitmproxy's queue just stops
        self.arm(0)

    def arm(self, at: int) -> None:
        self.at, self.count, self.hit = at, 0, ""
        self.broken: asyncio.Task[Any] | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        def factory(
            loop: asyncio.AbstractEventLoop, coro: Coroutine, **more: Any
        ) -> asyncio.Task[Any]:
            frame = getattr(coro, "cr_frame", None)
            module = frame.f_globals["__name__"] if frame else ""
            wanted = not self.only or coro.__qualname__ in self.only
            run = self._driven(coro) if wanted and module.startswith(ROOTS) else coro
            return asyncio.eager_task_factory(loop, run, **more)

        loop.set_task_factory(factory)  # type: ignore[arg-type]

    async def _driven(self, coro: Coroutine) -> Any:
        return await _Driven(self, coro)

    def wants(self, coro: Coroutine) -> bool:
        self.count += 1
        if self.count != self.at:
            return False
        self.hit = coro.__qualname__
        self.broken = asyncio.current_task()
        return True


class _Driven:
    def __init__(self, injector: Injector, coro: Coroutine) -> None:
        self._injector = injector
        self._coro = coro

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                step = self._coro.throw(error) if error else self._coro.send(None)
            except StopIteration as done:
                return done.value
            error = None
            if self._injector.wants(self._coro):
                if self._injector.kind == "error":
                    if step is not None:
                        step._asyncio_future_blocking = False  # this task waits for it no more
                    error = RuntimeError("broken on purpose")
                    continue
                task = asyncio.current_task()
                assert task
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield step
            except BaseException as thrown:  # noqa: BLE001 (passed on)
                error = thrown


async def ended(trying: asyncio.Task[int], injector: Injector) -> None:
    """Wait for the end of an attempt. The client leaves if it would get no sign of it."""
    async with asyncio.timeout(20):
        while not trying.done():
            broken = injector.broken
            if broken and broken.done() and injector.hit not in ANSWERED:
                for _ in range(100):  # whatever follows from it happens now
                    await asyncio.sleep(0)
                trying.cancel()
                await asyncio.wait([trying])
            await asyncio.wait([trying], timeout=0.01)


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect what mitmproxy's broken tasks leave open before the next test begins. The event loop
    of this test, which holds some of it, is closed by then."""
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("kind", ["error", "cancel"])
@pytest.mark.parametrize("way", WAYS)
async def test_whatever_breaks_off_leads_no_flow_past_its_exit(
    way: str, kind: str, tmp_path: Path
) -> None:
    async with (
        target_of(way) as origin,
        Exit(tls=tls_for("proxy.test")) as proxy,
        Nameserver(zone("proxy.test")) as nameserver,
        egress(
            tmp_path,
            proxies=[
                {
                    "name": "exit",
                    "type": "https",
                    "host": "proxy.test",
                    "port": proxy.port,
                    "family": "ipv4",
                    "health": "ignore",
                }
            ],
            rules=[{"use": "exit"}],
            dns=nameserver.port,
            connection_strategy=strategy_of(way),
            expect_errors=True,
        ) as mitm,
    ):
        injector = Injector(kind, way)
        injector.install(asyncio.get_running_loop())
        router = mitm.master.addons.get("egressselect").router
        broken = set()
        for at in itertools.count(1):
            router.resolver.clear()
            injector.arm(at)
            trying = asyncio.ensure_future(attempt(mitm, way, origin))
            await ended(trying, injector)
            if not injector.hit:
                assert trying.result() == 200
                break
            if injector.hit in ANSWERED:
                trying.result()  # whatever it is, it came
            broken.add(injector.hit)
        assert broken >= ANSWERED
        assert set(origin.peers) == {EXIT}
        assert set(nameserver.queries) == {("proxy.test", "A")}
