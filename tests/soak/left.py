"""A script for ``mitmdump -s``: gives free memory back to whoever connects, and says what is left.

It listens at ``left.sock`` in the confdir, and answers with JSON: ``connections`` and ``flows``,
how many are in memory, open or not, and ``tasks``, how many there are by kind.
"""

import asyncio
import contextlib
import ctypes
import gc
import json
from collections import Counter
from pathlib import Path

from mitmproxy import connection, ctx, flow

SOCKET = "left.sock"


async def running() -> None:
    await asyncio.start_unix_server(_say, Path(ctx.options.confdir) / SOCKET)


def _say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    objects = gc.get_objects()
    connections = sum(isinstance(one, connection.Connection) for one in objects)
    flows = sum(isinstance(one, flow.Flow) for one in objects)
    tasks = Counter(task.get_name().partition(":")[0] for task in asyncio.all_tasks())
    left = {"connections": connections, "flows": flows, "tasks": tasks}
    writer.write(json.dumps(left).encode())
    writer.close()
