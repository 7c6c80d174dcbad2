"""``proxies``: the upstream proxies of the registry."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, override

import click

from ..errors import InvalidEntry
from ..management.bulk import BulkEdit, BulkReport
from ..management.proxies import SORTS, ProxyView, Tested
from ..model.family import ProxyFamily
from ..model.proxy import (
    ExitFamily,
    Health,
    PlainHttp,
    ProxyStatus,
    ProxyType,
    TargetFamily,
)
from ..model.proxy_line import parse_single_proxy, require_type
from ..model.words import count
from .colour import Painted
from .command import choice, exclusive
from .entries import Done, EntryGroup, Given, given
from .members import state_cell
from .names import ALL
from .output import plain, say, say_fields, say_json, say_problem
from .session import Session

if TYPE_CHECKING:
    from ..management.management import Management
    from ..management.states import ResetView
    from .running import Asked


def _endpoint(proxy: ProxyView) -> str:
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"{host}:{proxy.port}"


def _state(proxy: ProxyView) -> Painted:
    return state_cell(proxy.now.state if proxy.now else "")


def _entry(text: str, type_: ProxyType | None) -> Given:
    """The fields of a proxy that is written as one text."""
    if ":" not in text and "|" not in text:
        raise InvalidEntry("Give a name and --host, or a proxy URL", "host")
    entry = parse_single_proxy(text, type_ or "socks5")
    if "password" in entry:
        raise InvalidEntry(
            "A password among the arguments can be seen by others and stays in the shell's "
            "history: leave it out and say --password-prompt, --password-env or --password-stdin",
            "password",
        )
    if not type_:
        require_type(entry)
    return {"name": f"{entry['host']}:{entry['port']}", **entry}


class _Proxies(EntryGroup):
    """The proxies of the registry."""

    plural, names = "proxies", ("home-1", "home-2")
    columns = "name type endpoint family status state used_by source problem"
    cells: ClassVar = {"endpoint": _endpoint, "state": _state}
    fields = (
        choice("--type", ProxyType),
        click.option("--host"),
        click.option("--port", type=int),
        choice("--family", ProxyFamily, "pins the hop to the proxy"),
        choice("--target-family", TargetFamily, "pins the hop behind the proxy", ["none"]),
        choice("--plain-http", PlainHttp, "how requests for http:// go through it"),
        click.option("--username"),
        click.option("--password-env", metavar="VARIABLE", help="take the password from there"),
        click.option("--password-stdin", is_flag=True, help="read a line from stdin"),
        click.option("--password-prompt", is_flag=True, help="ask for the password"),
        click.option("--region"),
        click.option("--notes"),
        click.option("--tag", "tags", multiple=True, help="repeatable; none for no tag"),
        choice("--status", ProxyStatus),
        choice("--health", Health, "ignore: its failures do not take it out of use"),
        click.option("--max-connections", type=int, help="0 for no limit"),
        choice("--exit-family", ExitFamily, "of the address that a target should see", ["none"]),
        click.option("--exit-in", multiple=True, metavar="NETWORK",
                     help="where that address should lie; repeatable, none for anywhere"),
        click.option("--exit-enforce/--no-exit-enforce", default=None,
                     help="refuse unless the exit was seen to be as expected"),
    )  # fmt: skip
    add_options = (click.argument("name", metavar="NAME|URL"),)
    list_options = (
        click.option("-q", metavar="TEXT", help="in name, host, region, notes or tags"),
        click.option("--tag", metavar="TAG[,TAG]", help="has all of these tags"),
        choice("--type", ProxyType),
        choice("--test", Tested, "how the last test ended"),
        click.option("--region"),
        choice("--family", ProxyFamily),
        choice("--status", ProxyStatus),
        click.option("--sort", type=click.Choice(SORTS), help="default: name"),
    )
    edit_options = (
        *EntryGroup.edit_options,
        click.option("--all-tagged", metavar="TAG[,TAG]",
                     help="every proxy of the registry that has all of these tags"),
        click.option("--add-tag", "add_tags", metavar="TAG", multiple=True,
                     help="beside those that each has; repeatable"),
        click.option("--remove-tag", "remove_tags", metavar="TAG", multiple=True,
                     help="repeatable"),
    )  # fmt: skip
    edit_needs_names = False
    remove_options = (click.option("--force", is_flag=True, help="also if something uses it"),)
    add_help = "Add a proxy: by its fields, or as a URL or a line of a list."
    add_example = "socks5://alice@192.0.2.1#home-1 --password-prompt"
    edit_example = "--family ipv6"

    @override
    def added(self, options: Given) -> Given:
        name = options.pop("name")
        if options["host"] is not None:
            return {"name": name, **self.taken(options)}
        return {**_entry(name, options["type"]), **self.taken(options)}

    @override
    def taken(self, options: Given) -> Given:
        """With the password from where the options say."""
        names = ("password_env", "password_stdin", "password_prompt")
        where = {name: options.pop(name) for name in names}
        exclusive(**where)
        fields = given(options)
        for name in ("target_family", "exit_family"):
            if fields.get(name) == "none":
                fields[name] = None
        for name in ("exit_in", "tags"):
            if name in fields:
                fields[name] = [one for one in fields[name] if one != "none"]
        if variable := where["password_env"]:
            if variable not in os.environ:
                raise InvalidEntry(f"{variable} is not in the environment", "password")
            fields["password"] = os.environ[variable]
        elif where["password_stdin"]:
            fields["password"] = sys.stdin.readline().rstrip("\n")
        elif where["password_prompt"]:
            fields["password"] = click.prompt(
                "Password", hide_input=True, default="", show_default=False, err=True
            )
        return fields

    @override
    def edit(self, session: Session, keys: Sequence[str], **options: Any) -> int:
        """One by one, or together in one change where it is for tags or by tags."""
        tagged = options.pop("all_tagged") or ""
        add_tags, remove_tags = options.pop("add_tags"), options.pop("remove_tags")
        if bool(keys) == bool(tagged):
            raise click.UsageError("Name the proxies to change, or give --all-tagged")
        if not (tagged or add_tags or remove_tags):
            return super().edit(session, keys, **options)
        changes = self.taken(options)
        if "name" in changes:
            raise click.UsageError("--name is for one NAME alone")
        edit = BulkEdit(changes, add_tags, remove_tags)

        async def change(asked: "Asked") -> BulkReport:
            ids = keys
            if tagged:
                found = asked.proxies.list(limit=ALL, tag=tagged, source="registry").items
                ids = [proxy.id for proxy in found]
            return await asked.bulk.edit(ids, edit) if ids else BulkReport(done=0)

        return _say_report(session, session.write(change))

    @override
    def show(self, asked: "Asked", key: str, _: Given) -> Given:
        return {**plain(asked.proxies.show(key)), "usage": plain(asked.proxies.usage(key))}

    @override
    def say_one(self, entry: Any) -> None:
        shown = dict(plain(entry))
        shown.pop("last_test")
        usage, now = shown.pop("usage", {}), shown.pop("now") or {}
        told = (
            {"state": now["state"], "why": now["why"], "tried_at": now["retry_at"]} if now else {}
        )
        say_fields({**shown, **told})
        for kind in ("pools", "rules", "assignments"):
            for one in usage.get(kind, ()):
                say(f"used by {kind[:-1]} {one['name']}")

    def set_status(self, status: ProxyStatus, asked: "Management", key: str, _: Given) -> Any:
        return self.update(asked, key, {"status": status})


def _say_report(session: Session, report: BulkReport) -> int:
    if session.json:
        say_json(report)
    else:
        say(f"{count(report.done, 'proxy was', 'proxies were')} changed")
        for one in report.failed:
            problem = {"code": one.code, "detail": one.message}
            say_problem(problem, as_json=False, about=one.name)
    return 1 if report.failed else 0


def _reset(asked: "Asked", key: str, _: Given) -> "ResetView":
    return asked.reset(key)


def _say_reset(done: Done) -> None:
    for name, view in done:
        say(f"{name}: {view.state}" + (f", was {view.was}" if view.was != view.state else ""))


proxies = _Proxies()
proxies.each("enable", partial(proxies.set_status, "active"), "Use proxies again.")
proxies.each("reset", _reset, "Close the circuits of proxies: they are used again at once.",
             ask=Session.read, say=_say_reset)  # fmt: skip
proxies.each("disable", partial(proxies.set_status, "inactive"), "Refuse what uses these proxies.")
