"""`python -m tests.lab [--without guard|filter|pin|circuit] [--prove] [NAME ...]`: the leak lab.

Runs the scenarios and stories whose title contains a ``NAME``, or all of them. Ends with 0 if
nothing leaked and everything ended as it should. ``--without`` first removes that safeguard: the
lab then has to fail. ``--prove`` runs it with each safeguard removed in turn, and ends with 1
unless each run leaks: a lab that cannot see a leak proves nothing.
"""

import argparse
import asyncio
import logging
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab.counters import PacketCounters, Packets
from tests.lab.hosts import FAMILIES, Hosts
from tests.lab.peers import peers
from tests.lab.run import STRAY, Result, judge, mitmdump, run
from tests.lab.scenarios import scenarios as all_scenarios
from tests.lab.stage import SABOTAGED
from tests.lab.stories import STORIES, tell

SAFEGUARDS = ("guard", "filter", "pin", "circuit")
SEEN_BY = {"circuit": "all members of a pool dead"}
"""The stories that see a safeguard missing where no scenario does."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make lab", description=__doc__)
    parser.add_argument("--without", choices=SAFEGUARDS, default="")
    parser.add_argument("--prove", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a title")
    arguments = parser.parse_args()
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # connections are cut on purpose
    try:
        if arguments.prove:
            return _prove()
        with Hosts() as hosts, hosts.proxies.entered(), PacketCounters(hosts.mitm) as counters:
            results, seen = asyncio.run(_lab(hosts, counters, arguments.without, arguments.names))
    except pytest.skip.Exception as reason:
        print(f"The lab was not run: {reason}")
        return 0
    except pytest.fail.Exception as reason:
        print(f"The lab cannot be run: {reason}")
        return 1
    if arguments.names and len(results) == 1:
        print("No scenario and no story has such a title")
        return 1
    return _report(results, seen)


def _prove() -> int:
    unseen = 0
    with ThreadPoolExecutor() as pool:  # each has network namespaces of its own, and mostly waits
        ended = dict(zip(SAFEGUARDS, pool.map(_without, SAFEGUARDS), strict=True))
    for safeguard, done in ended.items():
        if "was not run" in done.stdout:
            print(done.stdout.strip())
            return 0
        last = (done.stdout.splitlines() or [""])[-1]
        leaked = re.search(r"([1-9]\d*) leaked$", last)
        unseen += not (done.returncode == 1 and leaked)
        print(f"without the {safeguard}: {last or done.stderr[-500:]}")
    print(f"{len(SAFEGUARDS) - unseen} of {len(SAFEGUARDS)} sabotages seen")
    return int(bool(unseen))


def _without(safeguard: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.lab", "--without", safeguard]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)


async def _lab(
    hosts: Hosts, counters: PacketCounters, without: str, names: Sequence[str]
) -> tuple[list[Result], Packets]:
    def chooses(title: str) -> bool:
        return not names or any(name in title for name in names)

    with tempfile.TemporaryDirectory(prefix="lab-") as name:
        folder = Path(name)
        async with peers(hosts, folder) as there:
            if story := SEEN_BY.get(without):
                results = await tell([story], there, counters, folder, without)
                return results, counters.read()
            chosen = [one for one in all_scenarios(there) if chooses(one.title)]
            there.names.zone = {k: v for one in chosen for k, v in one.zone.items()}
            there.names.turns = {k: v for one in chosen for k, v in one.turns.items()}
            script = SABOTAGED if without else None
            async with mitmdump(folder, there, chosen, script, without) as mitm:
                outcomes = await run(mitm, there, chosen)
            seen, asked = counters.read(), there.names.queries
            of_system = there.system.queries
            results = judge(chosen, outcomes, seen, asked, there.names.place, of_system)
            if not without:
                told = [title for title in STORIES if chooses(title)]
                results += await tell(told, there, counters, folder)
            return results, counters.read()


def _report(results: Sequence[Result], seen: Packets) -> int:
    for result in results:
        if not result.is_good:
            print(f"{result.title}: {result.wrong}")
            print(f"  leaked {dict(result.leaked)}, asked {set(result.asked)}")
    leaked = sum((result.leaked for result in results), Counter()).total()
    bad = sum(not result.is_good for result in results)
    for kind, label in (("syn", "TCP SYN"), ("udp", "UDP")):
        counts = (f"{seen.total(kind, family)} {family}" for family in FAMILIES)
        print(f"{label} packets of mitmproxy's host: {', '.join(counts)}")
    scenarios = sum(result.title != STRAY for result in results)
    print(f"{scenarios} scenarios, {bad} not as they should be, {leaked} leaked")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
