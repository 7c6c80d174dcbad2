"""The command ``egress-policy``: what can be asked and done without mitmproxy running.

Messages are written for people: what is wrong and what to do, on stderr, one line each; ``--json``
puts the answer, and nothing else, on stdout. Exit status 0 is yes, 1 is no (a refusal, a failed
test, a bad file), 2 is a command that was not understood.
"""

import sys
from collections.abc import Sequence

from ..errors import EgressError
from ..requirements import what_to_install


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        return _main(arguments)
    except ImportError as error:
        if not (sentence := what_to_install(error)):
            raise
        print(f"egress-policy: {sentence}", file=sys.stderr)  # noqa: T201 (output.py needs more)
        return 1


def _main(arguments: Sequence[str] | None) -> int:
    from .parser import parser

    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except EgressError as error:
        from .output import say_error

        say_error(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stderr.close()
        return 1
    return status


__all__ = ["main"]
