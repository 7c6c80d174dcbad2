"""A script for ``mitmdump -s``: moves the management API to another address on SIGUSR1."""

import asyncio
import signal

from mitmproxy import ctx

PLACES = ("127.0.0.1:0", "[::1]:0")


def running() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _move)


def _move() -> None:
    """Setting an option to its old value would restart nothing."""
    before = PLACES.index(ctx.options.egress_listen)
    ctx.options.update(egress_listen=PLACES[1 - before])
