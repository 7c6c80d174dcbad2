"""``proxies``, ``pools``, ``rules``, ``assign`` and ``settings``: the entries of the registry."""

import argparse
import getpass
import json
import os
import sys
from typing import TYPE_CHECKING, Any, get_args

from ..errors import InvalidEntry
from ..management.pools import PoolView
from ..management.proxies import SORTS, ProxyView
from ..management.rules import RuleView
from ..management.views import View
from ..model.proxy import ProxyStatus, ProxyType, TargetFamily
from ..model.proxy_line import parse_single_proxy, require_type
from ..model.rule import AVAILABLE, Default
from .output import say, say_json, say_table
from .session import add_place, read, write

if TYPE_CHECKING:
    from ..management.management import Management
    from .session import Asked

_ALL = 1_000_000
_FAMILIES = ("auto", "ipv4", "ipv6")
Commands = Any  # argparse's sub-parsers, which have no public type


# -- proxies


def add_proxies(commands: Commands) -> None:
    verbs = _group(commands, "proxies", "the proxies of the registry")
    listing = _verb(verbs, "list", "list them, those of the policy file too", _list_proxies)
    listing.add_argument("-q", default="", metavar="TEXT", help="in name, host, region or notes")
    listing.add_argument("--family", choices=_FAMILIES, default="")
    listing.add_argument("--status", choices=get_args(ProxyStatus), default="")
    listing.add_argument("--sort", choices=SORTS, default="name")
    _named(_verb(verbs, "show", "show one, and what uses it", _show_proxy))
    adding = _verb(
        verbs, "add", "add one: by its fields, or as a URL or line of a list", _add_proxy
    )
    adding.add_argument("name", metavar="NAME|URL", help="its name, or a proxy URL")
    _proxy_fields(adding)
    editing = _named(_verb(verbs, "edit", "change the fields that are stated", _edit_proxy))
    editing.add_argument("--name", dest="new_name", metavar="NAME", help="a new name")
    _proxy_fields(editing)
    removing = _named(_verb(verbs, "remove", "delete one", _remove_proxy))
    removing.add_argument("--force", action="store_true", help="also if something uses it")
    for verb, status in (("enable", "active"), ("disable", "inactive")):
        what = "use it again" if status == "active" else "refuse what uses it"
        _named(_verb(verbs, verb, what, _set_status)).set_defaults(status=status)


def _proxy_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", choices=get_args(ProxyType))
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--family", choices=_FAMILIES, help="pins the hop to the proxy")
    parser.add_argument("--target-family", choices=(*get_args(TargetFamily), "none"))
    parser.add_argument("--plain-http", choices=("forward", "connect"))
    parser.add_argument("--username")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--password-env", metavar="VARIABLE", help="take the password from there")
    secret.add_argument("--password-stdin", action="store_true", help="read a line from stdin")
    secret.add_argument("--password-prompt", action="store_true", help="ask for the password")
    parser.add_argument("--region")
    parser.add_argument("--notes")
    parser.add_argument("--status", choices=get_args(ProxyStatus))


def _stated_proxy(options: argparse.Namespace) -> dict[str, Any]:
    names = ("type", "host", "port", "family", "target_family", "plain_http", "username")
    names += ("region", "notes", "status")  # type: ignore[assignment]
    stated = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if stated.get("target_family") == "none":
        stated["target_family"] = None
    password = _password(options)
    return stated if password is None else {**stated, "password": password}


def _password(options: argparse.Namespace) -> str | None:
    if options.password_env:
        if options.password_env not in os.environ:
            raise InvalidEntry(f"{options.password_env} is not in the environment", "password")
        return os.environ[options.password_env]
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\n")
    return getpass.getpass() if options.password_prompt else None


def _list_proxies(options: argparse.Namespace) -> int:
    async def work(management: "Asked") -> tuple[ProxyView, ...]:
        asked = {name: getattr(options, name) for name in ("q", "family", "status", "sort")}
        return management.proxies.list(**asked, limit=_ALL).items

    found = read(options, work)
    if options.json:
        say_json(found)
        return 0
    head = ("NAME", "TYPE", "ENDPOINT", "FAMILY", "STATUS", "USED BY", "SOURCE", "PROBLEM")
    say_table(
        head,
        (
            (p.name, p.type, _endpoint(p), p.family, p.status, p.used_by, p.source, p.problem)
            for p in found
        ),
    )
    return 0


def _show_proxy(options: argparse.Namespace) -> int:
    async def work(management: "Asked") -> tuple[View, View]:
        return management.proxies.show(options.key), management.proxies.usage(options.key)

    shown, usage = read(options, work)
    plain = {**shown.model_dump(mode="json"), "usage": usage.model_dump(mode="json")}
    if options.json:
        say_json(plain)
    else:
        usage_of = plain.pop("usage")
        plain["password"] = "set" if plain["password"]["set"] else "none"
        plain.pop("last_test")
        say_table(("FIELD", "VALUE"), plain.items())
        for kind in ("pools", "rules", "assignments"):
            for one in usage_of[kind]:
                say(f"used by {kind[:-1]} {one['name']}")
    return 0


def _add_proxy(options: argparse.Namespace) -> int:
    stated = _stated_proxy(options)
    if "host" in stated:
        fields: dict[str, Any] = {"name": options.name, **stated}
    else:
        if ":" not in options.name and "|" not in options.name:
            raise InvalidEntry("Give a name and --host, or a proxy URL", "host")
        entry = parse_single_proxy(options.name, options.type or "socks5")
        if "password" in entry:
            raise InvalidEntry(
                "A password among the arguments can be seen by others and stays in the shell's "
                "history: leave it out and say --password-prompt, --password-env or "
                "--password-stdin",
                "password",
            )
        if not options.type:
            require_type(entry)
        fields = {"name": f"{entry['host']}:{entry['port']}", **entry, **stated}
    return _write(options, lambda management: management.proxies.create(fields))


def _edit_proxy(options: argparse.Namespace) -> int:
    changes = _stated_proxy(options)
    if options.new_name is not None:
        changes["name"] = options.new_name
    return _write(options, lambda m: m.proxies.update(options.key, changes))


def _set_status(options: argparse.Namespace) -> int:
    changes = {"status": options.status}
    return _write(options, lambda m: m.proxies.update(options.key, changes))


def _remove_proxy(options: argparse.Namespace) -> int:
    return _write(options, lambda m: m.proxies.delete(options.key, force=options.force))


# -- pools


def add_pools(commands: Commands) -> None:
    verbs = _group(commands, "pools", "pools of interchangeable proxies")
    _verb(verbs, "list", "list them", _list_pools)
    _named(_verb(verbs, "show", "show one", _show_pool))
    adding = _verb(verbs, "add", "add one", _add_pool)
    adding.add_argument("name", metavar="NAME")
    _pool_fields(adding)
    editing = _named(_verb(verbs, "edit", "change the fields that are stated", _edit_pool))
    editing.add_argument("--name", dest="new_name", metavar="NAME", help="a new name")
    _pool_fields(editing)
    removing = _named(_verb(verbs, "remove", "delete one", _remove_pool))
    removing.add_argument("--force", action="store_true", help="also if a rule uses it")


def _pool_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--member", action="append", metavar="PROXY", help="repeatable, in order")
    parser.add_argument("--strategy", choices=AVAILABLE)


def _stated_pool(options: argparse.Namespace) -> dict[str, Any]:
    stated = {"members": options.member, "strategy": options.strategy}
    return {name: value for name, value in stated.items() if value is not None}


def _list_pools(options: argparse.Namespace) -> int:
    async def work(management: "Asked") -> tuple[PoolView, ...]:
        return management.pools.list(limit=_ALL).items

    found = read(options, work)
    if options.json:
        say_json(found)
    else:
        head = ("NAME", "STRATEGY", "MEMBERS", "USED BY", "SOURCE", "PROBLEM")
        rows = ((p.name, p.strategy, p.members, p.used_by, p.source, p.problem) for p in found)
        say_table(head, rows)
    return 0


def _show_pool(options: argparse.Namespace) -> int:
    return _show(options, lambda management: management.pools.show(options.key))


def _add_pool(options: argparse.Namespace) -> int:
    fields = {"name": options.name, "members": [], **_stated_pool(options)}
    return _write(options, lambda management: management.pools.create(fields))


def _edit_pool(options: argparse.Namespace) -> int:
    changes = _stated_pool(options)
    if options.new_name is not None:
        changes["name"] = options.new_name
    return _write(options, lambda m: m.pools.update(options.key, changes))


def _remove_pool(options: argparse.Namespace) -> int:
    return _write(options, lambda m: m.pools.delete(options.key, force=options.force))


# -- rules


def add_rules(commands: Commands) -> None:
    verbs = _group(commands, "rules", "rules: the first that matches decides")
    _verb(verbs, "list", "list them in their order", _list_rules)
    _named(_verb(verbs, "show", "show one, by name, #number or id", _show_rule))
    adding = _verb(verbs, "add", "add one, at the end", _add_rule)
    adding.add_argument("use", metavar="USE", help="a proxy, a pool, direct or refuse")
    adding.add_argument("--before", metavar="RULE", help="or before this one")
    adding.add_argument("--name")
    _rule_fields(adding)
    editing = _named(_verb(verbs, "edit", "change the fields that are stated", _edit_rule))
    editing.add_argument("--use", metavar="USE")
    editing.add_argument("--name")
    editing.add_argument(
        "--clear", action="append", default=[], choices=("hosts", "clients", "ports", "filter"),
        help="remove a condition",
    )  # fmt: skip
    _rule_fields(editing)
    _named(_verb(verbs, "remove", "delete one", _remove_rule))
    moving = _named(_verb(verbs, "move", "put one elsewhere", _move_rule))
    where = moving.add_mutually_exclusive_group(required=True)
    where.add_argument("--before", metavar="RULE")
    where.add_argument("--last", action="store_true")


def _rule_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", action="append", metavar="PATTERN", help="repeatable")
    parser.add_argument("--client", action="append", metavar="NETWORK", help="repeatable")
    parser.add_argument("--port", action="append", type=int, help="repeatable")
    parser.add_argument("--filter", metavar="EXPRESSION", help="of mitmproxy")
    parser.add_argument("--family", choices=_FAMILIES, help="with direct")
    parser.add_argument("--target-family", choices=get_args(TargetFamily))


def _stated_rule(options: argparse.Namespace) -> dict[str, Any]:
    stated = {
        "name": options.name,
        "hosts": options.host,
        "clients": options.client,
        "ports": options.port,
        "filter": options.filter,
        "use": options.use,
        "family": options.family,
        "target_family": options.target_family,
    }
    return {name: value for name, value in stated.items() if value is not None}


def _list_rules(options: argparse.Namespace) -> int:
    async def work(management: "Asked") -> tuple[RuleView, ...]:
        return management.rules.list(limit=_ALL).items

    found = read(options, work)
    if options.json:
        say_json(found)
        return 0
    head = ("RULE", "HOSTS", "CLIENTS", "PORTS", "FILTER", "USE", "FAMILY", "SOURCE", "REFUSES")
    say_table(head, (_rule_row(rule) for rule in found))
    return 0


def _rule_row(rule: RuleView) -> tuple[object, ...]:
    use = rule.use if isinstance(rule.use, str) else rule.use.name
    conditions = (rule.hosts, rule.clients, rule.ports, rule.filter)
    return (rule.label, *conditions, use, rule.family, rule.source, rule.problem or rule.refuses)


def _show_rule(options: argparse.Namespace) -> int:
    return _show(options, lambda management: management.rules.show(options.key))


def _add_rule(options: argparse.Namespace) -> int:
    fields = _stated_rule(options)
    return _write(options, lambda m: m.rules.create(fields, options.before))


def _edit_rule(options: argparse.Namespace) -> int:
    changes = {**_stated_rule(options), **dict.fromkeys(options.clear)}
    return _write(options, lambda m: m.rules.update(options.key, changes))


def _remove_rule(options: argparse.Namespace) -> int:
    return _write(options, lambda m: m.rules.delete(options.key))


def _move_rule(options: argparse.Namespace) -> int:
    return _write(options, lambda m: m.rules.move(options.key, options.before))


# -- assignments and settings


def add_assign(commands: Commands) -> None:
    parser = commands.add_parser("assign", help="say which proxy a scope leaves by")
    scopes = ("global", "host", "client", "user", "filter")
    parser.add_argument("scope", choices=scopes, nargs="?", help="without it: list them")
    parser.add_argument("scope_id", nargs="?", metavar="ID", help="of every scope but global")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--to", metavar="PROXY")
    target.add_argument("--clear", action="store_true")
    add_place(parser)
    parser.set_defaults(run=_assign)


def _assign(options: argparse.Namespace) -> int:
    if options.scope is None:

        async def listed(management: "Asked") -> Any:
            return management.assignments.list(limit=_ALL).items

        found = read(options, listed)
        if options.json:
            say_json(found)
        else:
            say_table(("SCOPE", "ID", "PROXY"), ((a.scope, a.scopeId, a.proxy) for a in found))
        return 0
    if not options.to and not options.clear:
        raise InvalidEntry("Say --to PROXY, or --clear", "proxy")
    return _write(
        options, lambda m: m.assignments.assign(options.scope, options.scope_id, options.to)
    )


def add_settings(commands: Commands) -> None:
    parser = commands.add_parser("settings", help="show or change the registry's settings")
    parser.add_argument("--set-default", choices=(*get_args(Default), "none"))
    parser.add_argument("--set-test-url", metavar="URL", help="none to go back to the default")
    add_place(parser)
    parser.set_defaults(run=_settings)


def _settings(options: argparse.Namespace) -> int:
    stated = {"default": options.set_default, "test_url": options.set_test_url}
    changes = {k: None if v == "none" else v for k, v in stated.items() if v is not None}
    if changes:
        return _write(options, lambda management: management.settings.change(changes))

    async def work(management: "Asked") -> View:
        return management.settings.show()

    return _say_view(options, read(options, work))


# -- what they share


def _group(commands: Commands, name: str, what: str) -> Commands:
    group = commands.add_parser(name, help=what, description=what)
    return group.add_subparsers(required=True, metavar="VERB")


def _verb(verbs: Commands, name: str, what: str, do: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    add_place(parser)
    parser.set_defaults(run=do)
    return parser


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("key", metavar="NAME", help="its name or id")
    return parser


def _write(options: argparse.Namespace, change: Any) -> int:
    """Make a change and show what it came to."""

    async def work(management: "Management") -> View | None:
        made: View | None = await change(management)
        return made

    made = write(options, work)
    if made is not None:
        return _say_view(options, made)
    if options.json:
        say_json({"success": True})
    return 0


def _show(options: argparse.Namespace, find: Any) -> int:
    async def work(management: "Asked") -> View:
        found: View = find(management)
        return found

    return _say_view(options, read(options, work))


def _say_view(options: argparse.Namespace, view: View) -> int:
    if options.json:
        say_json(view)
        return 0
    plain = view.model_dump(mode="json")
    if isinstance(plain.get("password"), dict):
        plain["password"] = "set" if plain["password"]["set"] else "none"
    shown = ((k, json.dumps(v) if isinstance(v, dict) else v) for k, v in plain.items())
    say_table(("FIELD", "VALUE"), shown)
    return 0


def _endpoint(proxy: ProxyView) -> str:
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"{host}:{proxy.port}"
