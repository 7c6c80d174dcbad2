"""A script for mitmdump that answers `http://loop.invalid/` with how long its event loop stood
still at most since it was asked last, in milliseconds."""

import asyncio
import time

from mitmproxy import http

HOST = "loop.invalid"
_PAUSE = 0.002


class LoopProbe:
    def __init__(self) -> None:
        self._longest = 0.0

    def running(self) -> None:
        self._watching = asyncio.create_task(self._watch(), name="loop probe")

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.request.host == HOST:
            flow.response = http.Response.make(200, str(self._longest * 1000))
            self._longest = 0.0

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_PAUSE)
            self._longest = max(self._longest, time.monotonic() - before - _PAUSE)


addons = [LoopProbe()]
