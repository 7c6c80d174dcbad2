"""``settings``: what the registry says about the policy as a whole."""

from typing import get_args

import click

from ..model.rule import Default
from .command import examples
from .entries import answer
from .session import Session, with_session


@click.command(epilog=examples("settings", "settings --set-default refuse"))
@click.option("--set-default", type=click.Choice((*get_args(Default), "none")))
@click.option("--set-test-url", metavar="URL", help="none to go back to the default")
@with_session
def settings(session: Session, set_default: str | None, set_test_url: str | None) -> int:
    """Show or change the registry's settings."""
    given = {"default": set_default, "test_url": set_test_url}
    changes = {k: None if v == "none" else v for k, v in given.items() if v is not None}
    if changes:
        made = session.write(lambda management: management.settings.change(changes))
        return answer(session, made)
    return answer(session, session.read(lambda asked: asked.settings.show()))
