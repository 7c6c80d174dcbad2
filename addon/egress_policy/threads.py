"""Blocking calls in threads that can be abandoned.

A database, a file on a network mount or a look-up by the system may hang for ever. Neither the loop
nor the end of the process waits for such a thread, as they would for the threads of an executor.
"""

import asyncio
import atexit
import functools
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, override

AT_ONCE: Final = 16
"""Calls that may run together; more are needed only if many hang."""
AT_ONCE_IN_LOOP: Final = 128
"""Look-ups that an ``Executor`` makes together, and other calls; further ones wait their turn."""
_AT_EXIT: Final = 0.5
"""Seconds that the end of the process waits for running calls."""

_running: set[threading.Thread] = set()


class TooManyHang(Exception):
    """All permitted calls hang, so the next call is not begun."""


class Threads:
    """Calls to one thing that may hang; at most ``at_once`` run together."""

    def __init__(self, name: str, at_once: int = AT_ONCE) -> None:
        self._name = name
        self._at_once = at_once
        self._under_way: set[threading.Thread] = set()

    async def run[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread of its own. When this is cancelled, as by a time-out, the
        call goes on, and what becomes of it is dropped. Raises ``TooManyHang``."""
        if len(self._under_way) >= self._at_once:
            raise TooManyHang(f"{self._at_once} earlier calls have not come back")
        return await asyncio.wrap_future(self.begin(lambda: function(*args, **kwargs)))

    def finish(self, close: Callable[[], None]) -> Future[None]:
        """Call ``close`` after the calls that are running."""
        before = tuple(self._under_way)

        def run() -> None:
            for thread in before:
                thread.join()
            close()

        return self.begin(run)

    def begin[T](self, call: Callable[[], T]) -> Future[T]:
        """Call it in a thread of its own, however many run. Returns at once."""
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # it can no longer be cancelled

        def run() -> None:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 (it is for the caller that waits)
                self._under_way.discard(thread)
                done.set_exception(error)
            else:
                self._under_way.discard(thread)
                done.set_result(result)
            finally:
                _running.discard(thread)

        thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._under_way.add(thread)
        _running.add(thread)
        try:
            thread.start()
        except BaseException:
            self._under_way.discard(thread)
            _running.discard(thread)
            raise
        return done


@dataclass(eq=False, slots=True)
class _Queue:
    """Calls of one kind that wait for their turn, and how many threads make them."""

    threads: int = 0
    waiting: deque[tuple[Future[object], Callable[[], object]]] = field(default_factory=deque)


class Executor(ThreadPoolExecutor):
    """For ``loop.set_default_executor``: what asyncio looks names up in, for mitmproxy too.

    One of asyncio's own has six threads on two cores, all of which may hang, and both the loop and
    the process wait for them at their end, for minutes. Here many may hang, nobody waits, and other
    calls do not queue behind look-ups.
    """

    def __init__(self, name: str, at_once: int = AT_ONCE_IN_LOOP) -> None:
        super().__init__(1)  # it has no thread of its own
        self._name = name
        self._at_once = at_once
        self._lock = threading.Lock()
        self._look_ups, self._others = _Queue(), _Queue()

    @override
    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        call = functools.partial(fn, *args, **kwargs)
        queue = self._look_ups if fn is socket.getaddrinfo else self._others
        with self._lock:
            queue.waiting.append((future, call))  # type: ignore[arg-type]
            if queue.threads >= self._at_once:
                return future
            queue.threads += 1
        try:
            threading.Thread(target=self._work, args=(queue,), name=self._name, daemon=True).start()
        except BaseException:
            with self._lock:
                queue.threads -= 1
            future.cancel()
            raise
        return future

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for nothing."""

    def _work(self, queue: "_Queue") -> None:
        while True:
            with self._lock:
                if not queue.waiting:
                    queue.threads -= 1
                    return
                future, call = queue.waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 (it is for the caller that waits)
                future.set_exception(error)
            else:
                future.set_result(result)


@atexit.register
def _let_them_end() -> None:
    until = time.monotonic() + _AT_EXIT
    for thread in tuple(_running):
        thread.join(max(0, until - time.monotonic()))
