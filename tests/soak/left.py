"""A script for ``mitmdump -s``: gives free memory back on each connection, and reports what is
left.

It listens at ``left.sock`` in the confdir, and answers with JSON: ``connections`` and ``flows`` are
the numbers in memory, open or not, ``tasks`` the numbers by kind, ``blocks`` the number of Python's
blocks in use, and ``allocated`` the MiB in use of the C library (0 if unknown).
"""

import asyncio
import contextlib
import ctypes
import gc
import json
import sys
from collections import Counter
from pathlib import Path

from mitmproxy import connection, ctx, flow

SOCKET = "left.sock"


class _MallInfo(ctypes.Structure):
    """``struct mallinfo2`` of the GNU C library, see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


async def running() -> None:
    await asyncio.start_unix_server(_say, Path(ctx.options.confdir) / SOCKET)


def _say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    gc.collect()
    allocated = 0.0
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim(0)
        libc.mallinfo2.restype = _MallInfo
        info = libc.mallinfo2()
        allocated = (info.uordblks + info.hblkhd) / 2**20
    blocks = sys.getallocatedblocks()
    objects = gc.get_objects()
    connections = sum(isinstance(one, connection.Connection) for one in objects)
    flows = sum(isinstance(one, flow.Flow) for one in objects)
    tasks = Counter(task.get_name().partition(":")[0] for task in asyncio.all_tasks())
    left = {
        "connections": connections,
        "flows": flows,
        "tasks": tasks,
        "blocks": blocks,
        "allocated": allocated,
    }
    writer.write(json.dumps(left).encode())
    writer.close()
