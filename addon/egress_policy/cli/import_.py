"""``import``: the proxies of a list, or of OmniRoute."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from ..errors import InvalidEntry
from ..management.import_report import (
    ImportReport,
    assumptions_of,
    counts_of,
    messages_of,
    numbers_in_words,
)
from ..management.transfer import decode_list, read_list
from ..model.proxy import ProxyType
from ..model.words import count
from .command import examples
from .output import progress, say, say_json, warn
from .running import Running
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.transfer import OmnirouteReport
    from .running import Asked


@click.command(
    "import", epilog=examples("import proxies.txt --dry-run", "import storage.sqlite --omniroute")
)
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--dry-run", is_flag=True, help="say what would be done")
@click.option("--type", "type_", type=click.Choice(get_args(ProxyType)),
              help="of what names none (default: socks5)")  # fmt: skip
@click.option("--update", is_flag=True,
              help="take other credentials, region, notes and tags for a proxy of the same name",
              )  # fmt: skip
@click.option("--omniroute", is_flag=True, help="FILE is the storage.sqlite of OmniRoute")
@with_session
def import_(
    session: Session,
    file: str,
    dry_run: bool,
    type_: ProxyType | None,
    update: bool,
    omniroute: bool,
) -> int:
    """Add the proxies of a list: text, CSV, JSON or Clash YAML. FILE is - for standard input."""
    take = session.try_out if dry_run else session.write
    if omniroute:
        carried = take(lambda asked: _carry(asked, Path(file), dry_run=dry_run))
        (say_json if session.json else _say_carried)(carried)
        return 0
    text = decode_list(file, sys.stdin.buffer.read if file == "-" else Path(file).read_bytes)

    async def import_text(asked: "Asked") -> ImportReport:
        if isinstance(asked, Running):
            transfer = asked.transfer
            return transfer.import_text(text, default_type=type_, update=update, dry_run=dry_run)
        listed = read_list(text, type_)
        with progress(listed.total, "importing") as step:
            return await asked.transfer.import_list(
                listed, update=update, dry_run=dry_run, progress=step
            )

    report: ImportReport = take(import_text)
    if session.json:
        say_json(report)
    else:
        _say_report(file, report, type_)
    return 1 if report.failed or report.differs else 0


def _say_report(file: str, report: ImportReport, named_type: str | None) -> None:
    for outcome, text, numbers in messages_of(report):
        several = "s" if len(numbers) > 1 else ""
        where = f"{file}: {report.unit}{several} {numbers_in_words(numbers)}"
        if report.unit == "line" and not several:
            where = f"{file}:{numbers[0]}"
        warn(f"{where}: {outcome}: {text}")
    say(counts_of(report))
    for type_, sentence in assumptions_of(report):
        other = "http" if type_ == "socks5" else "socks5"
        say(sentence if named_type else f"{sentence}; --type {other} changes that")
    if report.differs:
        lines = count(report.differs, f"{report.unit} differs", f"{report.unit}s differ")
        say(f"{lines} from what is there: --update takes those that name their proxy")


async def _carry(asked: "Asked", path: Path, *, dry_run: bool) -> "OmnirouteReport":
    if isinstance(asked, Running):
        place = asked.registry or "PLACE"
        why = f"A running mitmproxy does not take this file: give --registry {place}"
        raise InvalidEntry(why, "file")
    return await asked.transfer.import_omniroute(path, dry_run=dry_run)


def _say_carried(report: "OmnirouteReport") -> None:
    for what, notes in (("changed", report.changed), ("not carried", report.skipped)):
        for note in notes:
            warn(f"{what}: {note.what}: {note.why}")
    done = "would be created" if report.dry_run else "created"
    say(f"{count(report.created, 'proxy', 'proxies')} {done}, {report.assigned} assigned")
