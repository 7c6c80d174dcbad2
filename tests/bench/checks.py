"""What background checks of thousands of proxies cost, in a process that does nothing else.

Half of the proxies answer in another process, the others refuse.
"""

import asyncio
import contextlib
import errno
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from egress_policy.dns.resolver import DnsResolver
from egress_policy.management.checks import Checker
from egress_policy.management.in_force import PolicyInForce
from egress_policy.management.prober import Prober
from egress_policy.model.decision import Egress, Place
from egress_policy.model.rule import Policy
from egress_policy.policy.health import Health
from egress_policy.policy.hop import Outcome, unconnected
from egress_policy.policy.snapshot import Snapshot, build_snapshot
from egress_policy.proxy.filters import compile_filter
from egress_policy.router import EgressRouter
from tests.bench.pairs import Aim, Row, row
from tests.helpers.ports import free_port

MANY, FEW = 10_000, 100
_SECONDS = 5.0
_WARM_UP = 2.0
_ANSWERS = """
import socket
with socket.create_server(("", 0), backlog=1024) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        listener.accept()[0].close()
"""


@dataclass(frozen=True, slots=True)
class _Found:
    cpu: float
    """Per cent of a core."""
    rate: float
    """Attempts a second."""
    edit: float
    """Milliseconds to follow an edit of one proxy."""


@dataclass(frozen=True, slots=True)
class _InForce:
    snapshot: Snapshot
    problem: str = ""


def measure(pairs: int) -> Iterator[Row]:
    """Rows with many proxies in place of ours, and few of theirs."""
    with _answering() as port:
        for title, down in (("checks of all", False), ("greetings of all, which are down", True)):
            found = [
                tuple(asyncio.run(_run(count, port, down)) for count in (MANY, FEW))
                for _ in range(pairs)
            ]
            what = f"{title}, {MANY:,} members (theirs: {FEW})"
            cpu = [(many.cpu, few.cpu) for many, few in found]
            rate = [(many.rate, few.rate) for many, few in found]
            edit = [(many.edit, few.edit) for many, few in found]
            yield row(what, "% of a core", cpu, Aim("ours", "<=", 5.0))
            yield row(what, "attempts/s", rate, Aim("ours", "<=", 20.0))
            yield row(f"{what}, an edit", "ms", edit)


async def _run(count: int, port: int, down: bool) -> _Found:
    """``down``: all circuits are open at first, and no checks are asked for."""
    policy = _policy(count, port, down)
    snapshot = build_snapshot(policy, compile_filter)
    edited = build_snapshot(_edited(policy), compile_filter, previous=snapshot)
    resolver = DnsResolver()
    in_force = PolicyInForce(EgressRouter(snapshot, resolver), compile_filter)
    health = Health(time.monotonic, random.Random(1))
    attempts = 0

    def report(egress: Egress, target: Place, pool: str, outcome: Outcome) -> None:
        nonlocal attempts
        attempts += outcome.step == "attempt"
        health.report(egress, target, pool, outcome)

    view = _InForce(snapshot)
    checks = Checker(view, Prober(in_force), health, report)
    if down:
        _fail_all(health, snapshot)
    checks.start()
    await asyncio.sleep(_WARM_UP)
    attempts, cpu, began = 0, time.process_time(), time.perf_counter()
    await asyncio.sleep(_SECONDS)
    seconds = time.perf_counter() - began
    found = (time.process_time() - cpu) / seconds * 100, attempts / seconds
    began = time.perf_counter()
    checks.follow(edited)
    ms = (time.perf_counter() - began) * 1000
    await checks.aclose()
    await resolver.aclose()
    return _Found(*found, ms)


def _policy(count: int, port: int, down: bool) -> Policy:
    """Each proxy has an address of its own on loopback. Every other one listens."""
    shut = free_port()
    proxies = [
        {
            "name": f"p{number}",
            "host": f"127.1.{number >> 8}.{number & 255}",
            "port": shut if number % 2 else port,
        }
        for number in range(count)
    ]
    pool = {
        "name": "homes",
        "members": [proxy["name"] for proxy in proxies],
        "checks": None if down else {"every": 60, "members": "all"},
    }
    return Policy.model_validate({"proxies": proxies, "pools": [pool]})


def _edited(policy: Policy) -> Policy:
    """The same with another port of one proxy; all others are the same objects."""
    first, *others = policy.proxies
    changed = first.model_copy(update={"port": 1})
    return policy.model_copy(update={"proxies": (changed, *others)})


def _fail_all(health: Health, snapshot: Snapshot) -> None:
    """As where all have failed at once, a moment ago."""
    failure = unconnected("127.0.0.1", 1, errno.ECONNREFUSED, "")
    for proxy in snapshot.proxies.values():
        egress, now = Egress(proxy), time.monotonic()
        for _ in range(3):
            health.report(egress, ("x.test", 1), "homes", Outcome("attempt", "", failure, now, now))


@contextlib.contextmanager
def _answering() -> Iterator[int]:
    """The port of a process that takes connections at every address of this machine."""
    with subprocess.Popen(
        [sys.executable, "-c", _ANSWERS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
