"""``token``: the token of the management API."""

from pathlib import Path

import click

from .command import examples
from .output import say, say_json
from .session import Session, with_session


@click.command(epilog=examples("token", "token --new"))
@click.option("--new", is_flag=True, help="make a new one; mitmproxy reads it when it starts")
@click.option("--file", type=click.Path(path_type=Path), help="option egress_token_file")
@with_session
def token(session: Session, new: bool, file: Path | None) -> int:
    """Print the token of the management API. It is that of the mitmproxy that runs, or of the next
    one."""
    from ..management.token_file import make_token, read_token
    from .running import find_run

    folder = session.folder
    run = None if file else find_run(folder)
    path = file or (run.token_file if run else None) or folder / "egress-token"
    if new:
        make_token(path)
    text = read_token(path)
    if session.json:
        say_json({"token": text, "file": str(path)})
    else:
        say(text)
    return 0
