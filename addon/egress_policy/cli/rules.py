"""``rules``: the first that matches decides."""

from typing import TYPE_CHECKING, Any, ClassVar, override

import click

from ..management.rules import RuleView
from ..model.family import ProxyFamily
from ..model.proxy import TargetFamily
from .command import choice, exclusive
from .entries import EntryGroup, Given, given
from .names import Name

if TYPE_CHECKING:
    from .running import Asked

_USE = Name("proxies", "pools", also=("direct", "refuse"))
_RULE = Name("rules")
_CONDITIONS = click.Choice(("hosts", "clients", "ports", "filter"))


def _use(rule: RuleView) -> str:
    return rule.use if isinstance(rule.use, str) else rule.use.name


class _Rules(EntryGroup):
    """Rules: the first that matches decides. NAME is a rule's name, #number or id."""

    plural, names = "rules", ("mine", "#2")
    columns = "rule hosts clients ports filter use family source hits notes"
    cells: ClassVar = {
        "rule": lambda rule: rule.label,
        "use": _use,
        "notes": lambda rule: rule.problem or rule.refuses or rule.never,
    }
    fields = (
        click.option("--name"),
        click.option("--host", "hosts", multiple=True, metavar="PATTERN", help="repeatable"),
        click.option("--client", "clients", multiple=True, metavar="NETWORK", help="repeatable"),
        click.option("--port", "ports", multiple=True, type=int, help="repeatable"),
        click.option("--filter", metavar="EXPRESSION", help="of mitmproxy"),
        choice("--family", ProxyFamily, "with direct"),
        choice("--target-family", TargetFamily),
    )
    add_options = (
        click.argument("use", type=_USE, metavar="USE"),
        click.option("--before", metavar="RULE", type=_RULE, help="default: at the end"),
    )
    edit_options = (
        click.option("--use", metavar="USE", type=_USE),
        click.option("--clear", multiple=True, type=_CONDITIONS, help="remove a condition"),
    )
    add_help = "Add a rule. USE is a proxy, a pool, direct or refuse."
    add_example = "home-1 --host '*.example.org' --name mine"
    edit_example = "--use refuse"

    @override
    def taken(self, options: Given) -> Given:
        cleared = dict.fromkeys(options.pop("clear"))
        return {**given(options), **cleared}

    @override
    def create(self, asked: "Asked", fields: Given) -> Any:
        before = fields.pop("before", None)
        return asked.rules.create(fields, before)


def _move(asked: "Asked", key: str, place: Given) -> Any:
    return asked.rules.move(key, **place)


def _place(options: Given) -> Given:
    exclusive(required=True, **options)
    return {"before": options["before"]}


rules = _Rules()
rules.each(
    "move", _move, "Put rules elsewhere, in this order.",
    click.option("--before", metavar="RULE", type=_RULE), click.option("--last", is_flag=True),
    taken=_place, more="--last",
)  # fmt: skip
