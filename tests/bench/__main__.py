"""`python -m tests.bench [--quick] [--only TEXT]`: measure, print the table, write the JSON.

Ends with 0 also where an aim is missed: this measures, it does not judge. What cannot be measured
because a program or a permission is missing is left out and named; a request that fails ends the
run with 1.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.bench import (
    checks,
    decisions,
    egresses,
    first_byte,
    footprint,
    histories,
    instructions,
    listener,
    picks,
    policy_file,
    programs,
    registry,
)
from tests.bench.egresses import Effort
from tests.bench.load import LoadError
from tests.bench.pairs import Row
from tests.bench.report import machine, table, write_json

RESULT = Path(__file__).parents[2] / ".artifacts" / "bench.json"


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    effort = Effort(1, 6, 6, 0) if arguments.quick else Effort(3, 4, 20, 5.0)
    started = time.monotonic()
    rows: list[Row] = []
    left_out: list[str] = []
    for comparison in egresses.COMPARISONS:
        if arguments.only not in comparison.title:
            continue
        if missing := egresses.missing(comparison):
            left_out.append(f"{comparison.title}: {', '.join(missing)} not installed")
            continue
        print(f"measuring {comparison.title}", file=sys.stderr)
        try:
            rows += egresses.measure(comparison, effort)
        except LoadError as error:
            sys.exit(f"a request failed: {error}")
    if arguments.only in "instructions":
        missing = [name for name in instructions.NEEDS if programs.find(name) is None]
        if missing:
            left_out.append(f"instructions: {', '.join(missing)} not installed")
        else:
            print("measuring instructions", file=sys.stderr)
            rows += instructions.measure(2 if arguments.quick else 4)
    if arguments.only in "footprint":
        missing = [name for name in footprint.NEEDS if programs.find(name) is None]
        if missing:
            left_out.append(f"footprint: {', '.join(missing)} not installed")
        else:
            print("measuring footprint", file=sys.stderr)
            quick = footprint.Effort(2, 10_000)
            rows += footprint.measure(quick if arguments.quick else footprint.Effort(6, 50_000))
    if arguments.only in "histories":
        print("measuring histories", file=sys.stderr)
        rows += histories.measure(2)
    if arguments.only in "first byte":
        print("measuring first byte", file=sys.stderr)
        try:
            rows += first_byte.measure(4 if arguments.quick else 12)
        except first_byte.NotPermitted as why:
            left_out.append(f"first byte: {why}")
    if arguments.only in "decide":
        print("measuring decide", file=sys.stderr)
        rows += decisions.measure(10)
    if arguments.only in "picks":
        print("measuring picks", file=sys.stderr)
        rows += picks.measure(4 if arguments.quick else 10)
    if arguments.only in "checks":
        print("measuring checks", file=sys.stderr)
        rows += checks.measure(2 if arguments.quick else 4)
    if arguments.only in "registry":
        print("measuring registry", file=sys.stderr)
        rows += registry.measure(2 if arguments.quick else 6)
    if arguments.only in "policy file":
        print("measuring policy file", file=sys.stderr)
        rows += policy_file.measure(2 if arguments.quick else 6)
    if arguments.only in "listener":
        if programs.find("nginx"):
            print("measuring listener", file=sys.stderr)
            rows += listener.measure(2 if arguments.quick else 6, 5)
        else:
            left_out.append("listener: nginx not installed")
    print(table(rows))
    for line in left_out:
        print(f"left out: {line}")
    missed = sum(not row.meets(aim) for row in rows for aim in row.aims)
    facts = machine()
    print(
        f"\n{min((len(row.pairs) for row in rows), default=0)} pairs or more, ABBA; ratio = median "
        f"of the pairs' ratios; https is the headline; {missed} aims missed; "
        f"{time.monotonic() - started:.0f} s on {facts['cores']} cores, "
        f"Python {facts['python']}, mitmproxy {facts['mitmproxy']}"
    )
    write_json(RESULT, rows, left_out, time.monotonic() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, more noise")
    parser.add_argument("--only", default="", help="sections with this text in their title")
    return parser.parse_args()


if __name__ == "__main__":
    main()
