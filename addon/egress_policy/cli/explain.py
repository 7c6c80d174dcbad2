"""``explain``: which rule decides for a URL, and why."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import InvalidEntry
from ..management.states import why_now
from ..model.words import count
from .colour import Painted
from .command import examples
from .members import in_words
from .output import say, say_json
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.explain import EgressView, Explanation


@click.command(epilog=examples("explain https://www.example.org/ --method POST"))
@click.argument("url")
@click.option("--method", default="GET", show_default=True)
@click.option("--client", default="127.0.0.1", metavar="IP", show_default=True,
              help="the client that asks")  # fmt: skip
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="repeatable")
@click.option("--all", "all_rules", is_flag=True,
              help="list every rule, not only 100 around the deciding one")  # fmt: skip
@click.option("--default", type=click.Choice(("direct", "refuse")),
              help="option egress_default; asks no mitmproxy")  # fmt: skip
@with_session
def explain(
    session: Session, url: str, method: str, client: str, headers: Sequence[str], all_rules: bool
) -> int:
    """Say which rule decides for a URL; sends nothing."""
    from pydantic import ValidationError

    from ..management.explain import ExplainQuery

    fields = dict(map(_header, headers))
    try:
        query = ExplainQuery(
            url=url, method=method, client=client, headers=fields, all_rules=all_rules
        )
    except ValidationError as error:
        raise InvalidEntry("Give a URL, a method and a client's IP address", "url") from error
    found = session.read(lambda asked: asked.explain(query))
    (say_json if session.json else _say)(found)
    return 1 if found.outcome == "refuse" else 0


def _say(found: "Explanation") -> None:
    if found.rules_before:
        say(f"... {count(found.rules_before, 'rule', 'rules')} before these did not decide")
    for trace in found.rules:
        say(f"{trace.rule:<24} {trace.verdict:<18} {trace.why}".rstrip())
    if found.rules_after:
        say(f"... {found.rules_after} more not reached; --all lists every rule")
    if found.outcome == "refuse":
        say("=> ", Painted("refused", "bad"), f": {found.code} {found.reason}: {found.detail}")
        return
    if found.outcome == "undecided":
        say(f"=> open: {found.why}")
    for egress in found.egresses:
        way = f"dials {egress.host} port {egress.port}, family {egress.family}"
        say("=> ", Painted(egress.name, "good"), f": {way}{_faring(egress)}")
    for member in found.left_out:
        say(f"=> {member.proxy}: left out, {member.why}")
    if found.states:
        say(f"=> all members: {in_words(found.states)}")
    if found.note:
        say(f"=> {found.note}")


def _faring(egress: "EgressView") -> str:
    """Why an egress is not used now, in words behind the way that it takes."""
    now = egress.now
    return "" if now is None or now.state == "closed" else f"; {now.state}: {why_now(now)}"


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise InvalidEntry("A header is NAME:VALUE", "header")
    return name.strip(), value.strip()
