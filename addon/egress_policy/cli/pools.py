"""``pools``: pools of interchangeable proxies."""

import re
from typing import TYPE_CHECKING, Any, Final, Literal, override

import click

from ..model.pool import STRATEGIES
from .command import choice
from .entries import EntryGroup, Given, given
from .members import leases, members
from .names import Name
from .output import plain, say_fields
from .simulate import simulate

if TYPE_CHECKING:
    from .running import Asked

_NONE: Final = "none"
_URLS: Final = "url_"


class _Member(Name):
    """The name of a proxy, with ``=`` and its weight behind it where it does not weigh 1."""

    name = "member"

    @override
    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | Given:
        if match := re.fullmatch(r"(.+)=([0-9]{1,9})", value, re.DOTALL):
            return {"name": match[1], "weight": int(match[2])}
        return value


_MEMBER = _Member("proxies")


class _Pools(EntryGroup):
    """Pools of interchangeable proxies."""

    plural, names = "pools", ("homes", "offices")
    columns = "name strategy members used_by source problem"
    fields = (
        click.option("--member", "members", multiple=True, metavar="PROXY[=WEIGHT]", type=_MEMBER,
                     help="repeatable, in order"),
        click.option("--strategy", type=click.Choice(STRATEGIES)),
        click.option("--sticky-by", metavar="WHAT",
                     help="what keeps its member: client, user, host or header:NAME"),
        click.option("--sticky-minutes", type=int, help="how long, since the last use"),
        click.option("--failover", type=int, metavar="N",
                     help="further members that are tried while no tunnel stands, 0 to 5"),
        click.option("--seed", metavar="N", help="same seed, same picks; none for a random one"),
        click.option("--checks-every", metavar="TIME", help="60s, 5m or 1h; none for no checks"),
        click.option("--checks-url-ipv4", metavar="URL",
                     help="what a check asks for through members that leave by IPv4"),
        click.option("--checks-url-ipv6", metavar="URL",
                     help="the same for IPv6; none for the greeting alone"),
        click.option("--checks-expect", metavar="STATUS", help="such as 204 or 200-399"),
        choice("--checks-members", Literal["down", "all"], "which members are checked"),
    )  # fmt: skip
    add_options = (click.argument("name"),)
    remove_options = (click.option("--force", is_flag=True, help="also if a rule uses it"),)
    add_help = "Add a pool."
    add_example = "homes --member home-1 --member home-2=3"
    edit_example = "--member home-2"

    @override
    def added(self, options: Given) -> Given:
        return {"members": [], **self.taken(options)}

    @override
    def taken(self, options: Given) -> Given:
        """What is said of the checks is gathered in one field."""
        fields = given(options)
        if seed := fields.get("seed"):
            fields["seed"] = _number(seed)
        names = [name for name in fields if name.startswith("checks_")]
        checks = {name.removeprefix("checks_"): fields.pop(name) for name in names}
        if checks:
            fields["checks"] = None if checks.get("every") == _NONE else checks
        return fields

    @override
    def create(self, asked: "Asked", fields: Given) -> Any:
        return super().create(asked, _with_checks(fields, {}))

    @override
    def update(self, asked: "Asked", key: str, changes: Given) -> Any:
        if changes.get("checks"):
            there = plain(asked.pools.show(key))["checks"] or {}
            changes = _with_checks(changes, there)
        return super().update(asked, key, changes)

    @override
    def say_one(self, entry: Any) -> None:
        say_fields({**plain(entry), "members": [str(member) for member in entry.members]})


def _number(text: str) -> object:
    """The number, ``None`` for ``none``; any other text is rejected by the registry."""
    if text == _NONE:
        return None
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text


def _with_checks(fields: Given, there: Given) -> Given:
    """The fields with all of the checks: what was given, and what was there before."""
    if not fields.get("checks"):
        return fields
    checks = {**there, **fields["checks"]}
    urls = {**(checks.pop("url", None) or {})}
    for name in [name for name in checks if name.startswith(_URLS)]:
        urls[name.removeprefix(_URLS)] = checks.pop(name)
    kept = {family: url for family, url in urls.items() if url not in (None, _NONE)}
    return {**fields, "checks": {**checks, "url": kept or None}}


pools = _Pools()
for _command in (members, leases, simulate):
    pools.add_command(_command)
