"""``subscriptions``: lists of proxies behind URLs."""

import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal, override

import click

from ..errors import InvalidEntry
from ..model.proxy import ProxyType
from .command import choice, exclusive
from .entries import Done, EntryGroup, Given, given
from .output import plain, say, say_fields, say_table

if TYPE_CHECKING:
    from ..management.subscriptions import FetchReport, SubscriptionView
    from .running import Asked

_COUNTS = ("created", "updated", "removed", "kept", "unchanged", "skipped", "failed")


def _last(view: "SubscriptionView") -> str:
    last = view.last
    return "" if last is None else f"{'taken' if last.ok else 'failed'} {last.at}"


class _Subscriptions(EntryGroup):
    """Lists of proxies behind URLs, which are fetched again and again."""

    plural, names = "subscriptions", ("seller", "office")
    columns = "name place via every_hours proxies status last problem"
    cells: ClassVar = {"last": _last}
    fields = (
        click.option("--url", help="others can see it among the arguments"),
        click.option("--url-env", metavar="VARIABLE", help="take the URL from there"),
        click.option("--via", metavar="PROXY", help="what fetches it: a proxy, or direct"),
        click.option("--every-hours", type=int, help="0: only when asked; default: 24"),
        choice("--type", ProxyType, "of what names none", ["none"]),
        click.option("--tag", "tags", multiple=True, help="for its proxies; repeatable, or none"),
        choice("--status", Literal["active", "inactive"], "inactive: only when asked"),
    )
    list_help = "List the subscriptions, and what came of their last fetches."
    add_options = (click.argument("name"),)
    add_help = "Add a subscription; nothing is fetched before `subscriptions refresh`."
    add_example = "seller --via direct --url-env LIST_URL"
    edit_example = "--every-hours 6"

    @override
    def added(self, options: Given) -> Given:
        return self.taken(options)

    @override
    def taken(self, options: Given) -> Given:
        """With the URL from where the options say."""
        variable = options.pop("url_env")
        exclusive(url=options["url"], url_env=variable)
        fields = given(options)
        if variable:
            if variable not in os.environ:
                raise InvalidEntry(f"{variable} is not in the environment", "url")
            fields["url"] = os.environ[variable]
        if fields.get("type") == "none":
            fields["type"] = None
        if "tags" in fields:
            fields["tags"] = [one for one in fields["tags"] if one != "none"]
        return fields

    @override
    def say_one(self, entry: Any) -> None:
        shown = dict(plain(entry))
        last = shown.pop("last") or {}
        say_fields({**shown, **{f"last_{name}": value for name, value in last.items() if value}})


async def _preview(asked: "Asked", key: str, _: Given) -> "FetchReport":
    return await asked.subscriptions.preview(key)


async def _refresh(asked: "Asked", key: str, _: Given) -> "FetchReport":
    return await asked.subscriptions.refresh(key)


def _say_reports(done: Done) -> None:
    for name, report in done:
        if report.changes:
            say_table(
                ("CHANGE", "PROXY", "WHY"),
                [(one.kind, one.name, one.message) for one in report.changes],
            )
        counts = [f"{number} {kind}" for kind in _COUNTS if (number := getattr(report, kind))]
        what = "preview of " if report.dry_run else ""
        say(f"{what}{name}: {', '.join(counts)}")


subscriptions = _Subscriptions()
subscriptions.each("preview", _preview, "Fetch lists and say what they would change.",
                   say=_say_reports)  # fmt: skip
subscriptions.each("refresh", _refresh, "Fetch lists and take them.", say=_say_reports)
