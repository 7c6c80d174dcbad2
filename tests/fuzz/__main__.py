"""`python -m tests.fuzz SECONDS [TARGET …]`: coverage-guided fuzzing, SECONDS for each target.

Ends with 1 if a target crashed or hung; the input is then in ``.artifacts/fuzz``.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["egress_policy"]):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
FOUND = Path(__file__).parents[2] / ".artifacts" / "fuzz"
HANG = 5
"""Seconds that a single input may take."""


def main() -> int:
    seconds, *names = sys.argv[1:]
    FOUND.mkdir(parents=True, exist_ok=True)
    chosen, crashed = names or list(TARGETS), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, done in zip(chosen, pool.map(partial(_fuzz, seconds), chosen), strict=True):
            executed = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
            print(f"{name:14} {executed[-1] if executed else done.stderr[-3000:]}")
            if done.returncode:
                crashed.append(name)
    print(f"{len(crashed)} targets crashed: {', '.join(crashed) or 'none'}")
    return int(bool(crashed))


def _fuzz(seconds: str, name: str) -> subprocess.CompletedProcess[str]:
    """Runs in its own process, because the fuzzer ends the process that it runs in."""
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as grown:
        command = [sys.executable, "-m", "tests.fuzz", "--one", name, grown]
        command += [str(CORPUS / name), f"-max_total_time={seconds}", f"-timeout={HANG}"]
        command += ["-rss_limit_mb=4096", f"-artifact_prefix={FOUND}/{name}-"]
        return subprocess.run(command, check=False, capture_output=True, text=True)


def _one(name: str, *arguments: str) -> None:
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(*sys.argv[2:])
    else:
        sys.exit(main())
