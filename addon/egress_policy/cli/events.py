"""``events``: what happened to proxies."""

from typing import TYPE_CHECKING, Any

import click

from .command import examples
from .names import Name
from .output import say_json, say_table
from .session import Session, with_session

if TYPE_CHECKING:
    from .running import Asked

_MOST = 1000


@click.command(epilog=examples("events", "events --proxy home-1"))
@click.option("--proxy", metavar="NAME", type=Name("proxies"), help="of one proxy")
@click.option("--limit", type=click.IntRange(1, _MOST), default=50, show_default=True,
              help="how many, the newest first")  # fmt: skip
@with_session
def events(session: Session, proxy: str | None, limit: int) -> int:
    """List what happened to proxies: circuits that opened and closed, exits that changed."""

    async def work(asked: "Asked") -> Any:
        await asked.recall()
        return asked.events.list(proxy, limit)

    found = session.read(work)
    if session.json:
        say_json(found)
    else:
        say_table(("PROXY", "EVENT"), ([one.proxy, one.text] for one in found))
    return 0
