"""Where the script lies."""

import subprocess
import sys
from pathlib import Path

from egress_policy.cli import main
from tests.helpers.shell import Capture


def test_script_prints_a_file_that_exists(capsys: Capture) -> None:
    assert main(["script"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.name == "egress.py"
    assert path.is_file()


def test_path_of_the_script_is_found_without_mitmproxy_or_database() -> None:
    program = (
        "import sys; from egress_policy.cli import main; main(['script']); "
        "print([m for m in ('mitmproxy', 'sqlalchemy', 'tornado') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[1] == "[]"
