"""``pools``: pools of interchangeable proxies."""

from typing import override

import click

from ..model.pool import STRATEGIES
from .entries import EntryGroup, Given, given
from .names import Name
from .simulate import simulate

_MEMBER = Name("proxies")


class _Pools(EntryGroup):
    """Pools of interchangeable proxies."""

    plural, names = "pools", ("homes", "offices")
    columns = "name strategy members used_by source problem"
    fields = (
        click.option("--member", "members", multiple=True, metavar="PROXY", type=_MEMBER,
                     help="repeatable, in order"),
        click.option("--strategy", type=click.Choice(STRATEGIES)),
    )  # fmt: skip
    add_options = (click.argument("name"),)
    remove_options = (click.option("--force", is_flag=True, help="also if a rule uses it"),)
    add_help = "Add a pool."
    add_example = "homes --member home-1 --member home-2"
    edit_example = "--member home-2"

    @override
    def added(self, options: Given) -> Given:
        return {"members": [], **given(options)}


pools = _Pools()
pools.add_command(simulate)
