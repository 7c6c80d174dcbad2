"""``assign``: which proxy a scope leaves by."""

import click

from ..errors import InvalidEntry
from .command import examples, exclusive
from .entries import answer
from .names import ALL, Name
from .output import say_json, say_table
from .session import Session, with_session


@click.command(
    epilog=examples("assign", "assign host www.example.org --to home-1", "assign global --clear")
)
@click.argument("scope", required=False,
                type=click.Choice(("global", "host", "client", "user", "filter")))  # fmt: skip
@click.argument("scope_id", metavar="[ID]", required=False)
@click.option("--to", metavar="PROXY", type=Name("proxies"))
@click.option("--clear", is_flag=True)
@click.option(
    "--group",
    metavar="NAME",
    help="scopes of one group should not share an exit; none for no group",
)
@with_session
def assign(
    session: Session,
    scope: str | None,
    scope_id: str | None,
    to: str | None,
    clear: bool,
    group: str | None,
) -> int:
    """Say which proxy a scope leaves by; without arguments, list that. Every scope but global has
    an ID."""
    exclusive(to=to, clear=clear)
    if scope is None:
        found = session.read(lambda asked: asked.assignments.list(limit=ALL).items)
        if session.json:
            say_json(found)
        else:
            rows = ((a.scope, a.scopeId, a.proxy, a.group) for a in found)
            say_table(("SCOPE", "ID", "PROXY", "GROUP"), rows)
        return 0
    if not to and not clear:
        raise InvalidEntry("Give --to PROXY or --clear", "proxy")
    group = "" if group == "none" else group
    made = session.write(
        lambda management: management.assignments.assign(scope, scope_id, to, group=group)
    )
    if made is not None:
        return answer(session, made)
    if session.json:
        say_json({"success": True})
    return 0
