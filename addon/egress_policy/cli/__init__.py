"""The command ``egress-policy``: what can be asked and done without mitmproxy running.

Messages are written for people: what is wrong and what to do, on stderr, one line each; ``--json``
puts the answer on stdout, which is then one JSON document, also where it is an error. Exit status 0
is yes, 1 is no (a refusal, a failed test, a bad file), 2 is a command that was not understood.
"""

import sys
from collections.abc import Sequence

from ..requirements import what_to_install


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = sys.argv[1:] if arguments is None else [*arguments]
    try:
        from .root import run

        return run(words)
    except ImportError as error:
        if not (sentence := what_to_install(error)):
            raise
        from .output import is_json_asked, say_problem

        say_problem({"code": "PACKAGE_MISSING", "detail": sentence}, as_json=is_json_asked(words))
        return 1


__all__ = ["main"]
