"""``settings``: what the registry says about the policy as a whole."""

from typing import Any, get_args

import click

from ..model.rule import Default
from .command import examples
from .entries import answer
from .session import Session, with_session


@click.command(epilog=examples("settings", "settings --set-default refuse"))
@click.option("--set-default", type=click.Choice((*get_args(Default), "none")))
@click.option("--set-test-url", metavar="URL", help="none to go back to the default")
@click.option("--set-echo-ipv4", metavar="URL", help="what answers with the IPv4 address it sees")
@click.option("--set-echo-ipv6", metavar="URL", help="the same for IPv6; none to ask nobody")
@with_session
def settings(
    session: Session,
    set_default: str | None,
    set_test_url: str | None,
    set_echo_ipv4: str | None,
    set_echo_ipv6: str | None,
) -> int:
    """Show or change the registry's settings."""
    changes = _given(default=set_default, test_url=set_test_url)
    echo = _given(ipv4=set_echo_ipv4, ipv6=set_echo_ipv6)

    def change(asked: Any) -> Any:
        """Of the echo only the families that are given change."""
        if not echo:
            return asked.settings.change(changes)
        there = asked.settings.show().echo
        urls = {**(there.model_dump() if there else {}), **echo}
        kept = {family: url for family, url in urls.items() if url}
        return asked.settings.change({**changes, "echo": kept or None})

    if changes or echo:
        return answer(session, session.write(change))
    return answer(session, session.read(lambda asked: asked.settings.show()))


def _given(**options: str | None) -> dict[str, str | None]:
    """What is changed; ``none`` clears it."""
    return {k: None if v == "none" else v for k, v in options.items() if v is not None}
