"""`python -m tests.mutants [PACKAGE …]`: how many changes of the code do the tests notice?

Changes model, policy and wire in one place at a time (mutmut) and runs their own tests on each
change. Prints the score of each package and the survivors; ``mutmut show NAME``, run in
``.artifacts/mutants``, shows one.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".artifacts" / "mutants"
PACKAGES = ("model", "policy", "wire")
_CONFIG = """
[tool.pytest.ini_options]
pythonpath = ["src", "."]
addopts = "--import-mode=importlib -p no:anyio -p no:xdist -p no:cacheprovider"
asyncio_mode = "auto"

[tool.mutmut]
source_paths = [{sources}]
pytest_add_cli_args_test_selection = [{tests}]
also_copy = ["src", "tests"]
"""


def main() -> int:
    packages = sys.argv[1:] or PACKAGES
    _lay_out(packages)
    mutmut = [sys.executable, "-m", "mutmut"]
    subprocess.run([*mutmut, "run", "--max-children", "2"], cwd=WORK, check=True)
    command = [*mutmut, "results", "--all", "true"]
    listed = subprocess.run(command, cwd=WORK, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"egress_policy\.(\w+)\.(\S+): ([\w ]+)", listed)
    for package, name, outcome in found:
        if outcome != "killed":
            print(f"{package}.{name}: {outcome}")
    for package in packages:
        outcomes = Counter(outcome for of, _, outcome in found if of == package)
        killed, all_ = outcomes["killed"], outcomes.total()
        print(f"{package}: {killed} of {all_} mutants killed ({killed / max(all_, 1):.0%})")
    return 0


def _lay_out(packages: tuple[str, ...] | list[str]) -> None:
    """A copy with the source in the place that mutmut expects."""
    shutil.rmtree(WORK, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        ROOT / "addon" / "egress_policy", WORK / "src" / "egress_policy", ignore=ignored
    )
    shutil.copytree(ROOT / "tests", WORK / "tests", ignore=ignored)
    sources = ", ".join(f'"src/egress_policy/{package}/"' for package in packages)
    tests = ", ".join(f'"tests/{package}"' for package in packages)
    (WORK / "pyproject.toml").write_text(_CONFIG.format(sources=sources, tests=tests))


if __name__ == "__main__":
    sys.exit(main())
