"""A registry of ten thousand proxies and as many rules, beside one of ten."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egress_policy.management.management import Management
from tests.bench.pairs import Aim, Row, row
from tests.helpers.management import KEY, managed
from tests.helpers.mitm import SCRIPT

MANY, FEW = 10_000, 10
_EDITS = 7


@dataclass
class _Times:
    """Milliseconds."""

    fill: list[float] = field(default_factory=list)
    page: list[float] = field(default_factory=list)
    rebuild: list[float] = field(default_factory=list)
    edit: list[float] = field(default_factory=list)
    stall: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)


def measure(pairs: int) -> Iterator[Row]:
    """In place of ours the large registry, of theirs the small one."""
    many, few = _Times(), _Times()
    for _ in range(pairs):
        for size, times in ((MANY, many), (FEW, few)):
            with tempfile.TemporaryDirectory() as folder:
                asyncio.run(_session(Path(folder), size, times))
                times.start.append(_start(Path(folder), with_registry=True))
                times.start[-1] -= _start(Path(folder), with_registry=False)
    limits = {
        "import of all proxies": ("fill", 10_000.0),
        "list page of 50": ("page", 50.0),
        "snapshot after an edit": ("rebuild", 150.0),
        "edit, in the database and in force": ("edit", None),
        "longest stall of the loop in an edit": ("stall", None),
        "start-up beyond plain mitmdump": ("start", 1_500.0),
    }
    for what, (name, limit) in limits.items():
        ours, theirs = getattr(many, name), getattr(few, name)
        found = list(zip(ours, theirs, strict=True))
        aims = () if limit is None else (Aim("ours", "<=", limit),)
        yield row(f"registry of {MANY:,}: {what} (theirs: {FEW})", "ms", found, *aims)


async def _session(folder: Path, size: int, times: _Times) -> None:
    async with managed(folder) as management:
        lines = "\n".join(
            f"socks5://user-{n}:secret@proxy-{n}.example:1080?family=ipv6#p{n}" for n in range(size)
        )
        started = time.perf_counter()
        await management.transfer.import_text(lines)
        times.fill.append(_since(started))
        await management.upkeep.change(lambda edit: _add_rules(edit, size))
        management.proxies.list(limit=1)
        times.page.append(statistics.median(_page(management, size) for _ in range(_EDITS)))
        edits = [await _edit(management, number) for number in range(_EDITS)]
        for name, values in zip(
            ("edit", "stall", "rebuild"), zip(*edits, strict=True), strict=True
        ):
            getattr(times, name).append(statistics.median(values))


def _add_rules(edit: Any, size: int) -> None:
    for n in range(size):
        edit.rules.create({"hosts": [f"*.host-{n}.example"], "use": f"p{n}"})


def _page(management: Management, size: int) -> float:
    started = time.perf_counter()
    management.proxies.list(limit=50, offset=size // 2).model_dump_json()
    return _since(started)


async def _edit(management: Management, number: int) -> Sequence[float]:
    """How long an edit, the longest stall of the loop in it, and its snapshot take."""
    longest, running = 0.0, True

    async def watch() -> None:
        nonlocal longest
        while running:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, _since(before) - 1)

    watching = asyncio.create_task(watch())
    started = time.perf_counter()
    await management.proxies.update("p1", {"port": 2000 + number})
    edited = _since(started)
    running = False
    await watching
    in_force = management.in_force
    previous = in_force.snapshot
    await management.upkeep.change(
        lambda registry: registry.proxies.update(
            management.proxies.show("p2").id, {"port": 3000 + number}
        )
    )
    in_force.router.snapshot = previous
    started = time.perf_counter()
    in_force.make(in_force.opened.inputs)
    rebuilt = _since(started)
    in_force.hold(in_force.opened)
    return edited, longest, rebuilt


def _start(folder: Path, *, with_registry: bool) -> float:
    """Until it listens."""
    ours = ["-s", str(SCRIPT), "--set", f"egress_registry={folder / 'egress.db'}"]
    command = [sys.executable, "-u", "-c", "from mitmproxy.tools.main import mitmdump; mitmdump()"]
    command += ["--set", f"confdir={folder}", "--set", "listen_host=127.0.0.1", "-p", "0"]
    command += [*ours, "--set", "egress_listen="] if with_registry else []
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**KEY}
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "listening at" in line:
                    return _since(started)
        finally:
            process.terminate()
    raise RuntimeError("mitmdump did not start")


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
