"""``import``, ``export`` and ``test``: many proxies at once."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..errors import InvalidEntry
from ..management.import_report import (
    ImportReport,
    assumptions_of,
    counts_of,
    messages_of,
    numbers_in_words,
)
from ..management.test_result import TestResult
from ..model.proxy import ProxyType
from ..model.proxy_list import parse_proxy_list
from .output import Progress, count, say, say_data, say_json, say_table, warn
from .session import add_place, read, try_out, write

if TYPE_CHECKING:
    from ..management.management import Management
    from ..management.transfer import OmnirouteReport
    from .session import Asked

_ALL = 1_000_000


def add_transfer(commands: Any) -> None:
    taking = commands.add_parser("import", help="add the proxies of a list: text, CSV or JSON")
    taking.add_argument("file", metavar="FILE", help="- for standard input")
    taking.add_argument("--dry-run", action="store_true", help="say what would be done")
    taking.add_argument(
        "--type", choices=get_args(ProxyType), help="of what names none (default: socks5)"
    )
    taking.add_argument(
        "--update", action="store_true",
        help="take other credentials, region and notes for a proxy of the same name",
    )  # fmt: skip
    taking.add_argument(
        "--omniroute", action="store_true", help="FILE is the storage.sqlite of OmniRoute"
    )
    add_place(taking)
    taking.set_defaults(run=_import)

    giving = commands.add_parser("export", help="write the proxies out")
    giving.add_argument("--format", choices=("text", "csv", "json"), default="text")
    giving.add_argument("--secrets", action="store_true", help="with passwords")
    giving.add_argument("-o", "--output", type=Path, metavar="FILE", help="made with mode 0600")
    add_place(giving)
    giving.set_defaults(run=_export)

    testing = commands.add_parser("test", help="test proxies through their pinned hops")
    testing.add_argument("names", nargs="*", metavar="NAME")
    testing.add_argument("--all", action="store_true", help="every active proxy")
    testing.add_argument(
        "--dns", action="append", default=[], metavar="SERVER", help="option egress_dns"
    )
    add_place(testing)
    testing.set_defaults(run=_test, dns=[])


def _import(options: argparse.Namespace) -> int:
    if options.omniroute:
        return _import_omniroute(options)
    listed = parse_proxy_list(_read(options.file), options.type)
    progress = Progress(listed.total, "importing")

    async def work(management: "Management") -> ImportReport:
        return await management.transfer.import_list(
            listed, update=options.update, dry_run=options.dry_run, progress=progress.step
        )

    report = (try_out if options.dry_run else write)(options, work)
    progress.end()
    if options.json:
        say_json(report)
    else:
        _say_report(options, report)
    return 1 if report.failed or report.differs else 0


def _say_report(options: argparse.Namespace, report: ImportReport) -> None:
    for outcome, text, numbers in messages_of(report):
        several = "s" if len(numbers) > 1 else ""
        where = f"{options.file}: {report.unit}{several} {numbers_in_words(numbers)}"
        if report.unit == "line" and not several:
            where = f"{options.file}:{numbers[0]}"
        warn(f"{where}: {outcome}: {text}")
    say(counts_of(report))
    for type_, sentence in assumptions_of(report):
        other = "http" if type_ == "socks5" else "socks5"
        say(sentence if options.type else f"{sentence}; --type {other} changes that")
    if report.differs:
        say(f"{count(report.differs, report.unit, report.unit + 's')} differ from proxies that are "
            "there: --update takes them")  # fmt: skip


def _read(file: str) -> str:
    """The text as it stands: within a cell of CSV a line end may be of any kind."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a UTF-8 text"
        raise InvalidEntry(f"{file} cannot be read: {why}", "file") from error


def _import_omniroute(options: argparse.Namespace) -> int:
    async def work(management: "Management") -> "OmnirouteReport":
        return await management.transfer.import_omniroute(
            Path(options.file), dry_run=options.dry_run
        )

    report = (try_out if options.dry_run else write)(options, work)
    if options.json:
        say_json(report)
        return 0
    for what, notes in (("changed", report.changed), ("not carried", report.skipped)):
        for note in notes:
            warn(f"{what}: {note.what}: {note.why}")
    done = "would be created" if report.dry_run else "created"
    say(f"{count(report.created, 'proxy', 'proxies')} {done}, {report.assigned} assigned")
    return 0


def _export(options: argparse.Namespace) -> int:
    async def work(management: "Asked") -> str:
        return management.transfer.export(options.format, secrets=options.secrets)

    text = read(options, work)
    if options.output is None:
        say_data(text)
        return 0
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(options.output, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise InvalidEntry(f"{options.output} cannot be written: {error.strerror}", "o") from error
    return 0


def _test(options: argparse.Namespace) -> int:
    if not options.names and not options.all:
        raise InvalidEntry("Name the proxies to test, or say --all", "names")

    async def work(management: "Asked") -> list[TestResult]:
        names = options.names
        if options.all:
            found = management.proxies.list(status="active", limit=_ALL).items
            names = [proxy.name for proxy in found]
        progress = Progress(len(names), "testing")

        async def one(name: str) -> TestResult:
            result = await management.probes.test(name)
            progress.step()
            return result

        try:
            return await asyncio.gather(*(one(name) for name in names))
        finally:
            progress.end()

    results = read(options, work)
    if options.json:
        say_json(results)
    else:
        head = ("PROXY", "RESULT", "FAMILY", "ADDRESS", "DNS", "CONNECT", "HANDSHAKE", "FIRST BYTE")
        say_table((*head, "EGRESS IP", "WHY"), map(_row, results))
    return 0 if all(result.ok for result in results) else 1


def _row(result: TestResult) -> tuple[object, ...]:
    times = (result.dns_ms, result.connect_ms, result.handshake_ms, result.first_byte_ms)
    outcome = "ok" if result.ok else result.reason
    seen = (result.proxy, outcome, result.peer_family or result.family, result.address)
    return (*seen, *times, result.egress_ip, result.detail)
