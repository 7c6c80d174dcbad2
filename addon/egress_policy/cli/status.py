"""``status``: what is in force, and what flows took."""

import click

from .command import examples
from .entries import answer
from .session import Session, with_session


@click.command(epilog=examples("status"))
@with_session
def status(session: Session) -> int:
    """Say what is in force, and what flows took."""
    found = session.read(lambda asked: asked.status())
    answer(session, found)
    return 1 if found.state == "refusing" else 0
