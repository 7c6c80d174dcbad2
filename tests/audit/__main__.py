"""`python -m tests.audit`: does an installed package have a known weakness?

Asks an advisory service (pip-audit). Ends with 1 if it knows a weakness. If the service cannot be
asked, it says so and ends with 0: that is no finding.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_COMMAND = [str(Path(sys.executable).with_name("pip-audit")), "--skip-editable"]


def main() -> int:
    options = ("--progress-spinner", "off", "--format", "json")
    done = subprocess.run([*_COMMAND, *options], check=False, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(f"The audit was not run: {(done.stderr.strip() or 'no answer').splitlines()[-1]}")
        return 0
    return report(packages)


def report(packages: list[dict[str, Any]]) -> int:
    """Print what is known about each package. Returns 1 if any is weak."""
    unknown = [one["skip_reason"] for one in packages if "skip_reason" in one]
    weak = [one for one in packages if one.get("vulns")]
    for one in weak:
        for found in one["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "none"
            print(f"{one['name']} {one['version']}: {found['id']}, fixed in {fixed}")
    print(f"{len(packages) - len(unknown)} packages audited, {len(weak)} weak")
    if unknown:
        print(f"{len(unknown)} could not be asked about: {unknown[0]}{' …' if unknown[1:] else ''}")
    return int(bool(weak))


if __name__ == "__main__":
    sys.exit(main())
