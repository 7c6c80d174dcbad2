"""Attacks on the management listener, each kind for a few seconds, and a client of the proxy that
measures how long it waits for answers meanwhile."""

import asyncio
import contextlib
import itertools
import os
import re
import sys
import time

from tests.bench.attacks import KINDS
from tests.e2e.node import API_PLACE
from tests.helpers.clients import session
from tests.soak.scene import FIXED, Soak

_LASTS, _CALM = 3.0, 2.0
"""Seconds of an attack, and of the pause after it."""
_PAUSE = 0.05
"""Seconds between an answer and the next request of the measuring client."""


class Attacks:
    """``longest`` is the longest wait for an answer in seconds, by the attack under way when the
    request was sent: "" is none."""

    def __init__(self, under: Soak) -> None:
        self.longest: dict[str, float] = {}
        self._under, self._now = under, ""
        self._kinds = itertools.cycle(KINDS)

    async def go_on(self, over: asyncio.Event) -> None:
        """Attack, and wait as a client, until the end."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._wait_for_answers(over))
            while not over.is_set():
                await _pass(_CALM, over)
                self._now = next(self._kinds)
                await self._attack(self._now, over)
                self._now = ""

    async def _attack(self, kind: str, over: asyncio.Event) -> None:
        mitm = self._under.mitm
        port = re.findall(API_PLACE, mitm.output)[-1].rpartition(":")[2]
        token = (mitm.confdir / "egress-token").read_text().strip()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.attacks", kind, port),
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "EGRESS_TOKEN": token},
        )
        try:
            await _pass(_LASTS, over)
        finally:
            process.kill()
            await process.wait()

    async def _wait_for_answers(self, over: asyncio.Event) -> None:
        under = self._under
        base = f"http://{FIXED['direct']}:{under.origin.port}"
        async with session(under.mitm.port, base) as client:
            while not over.is_set():
                attack, sent = self._now, time.monotonic()
                answer = await client.get()
                assert answer.status == 200, answer
                took = time.monotonic() - sent
                self.longest[attack] = max(took, self.longest.get(attack, 0.0))
                await _pass(_PAUSE, over)


async def _pass(seconds: float, over: asyncio.Event) -> None:
    """Wait for so many seconds, or until the end."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
