"""A script for ``mitmdump -s``: frees garbage on SIGUSR1 and says which tasks there are."""

import asyncio
import gc
import logging
import signal
from collections import Counter


def running() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _say)


def _say() -> None:
    gc.collect()
    kinds = Counter(task.get_name().partition(":")[0] for task in asyncio.all_tasks())
    logging.getLogger(__name__).warning(f"tasks: {dict(kinds)}")
