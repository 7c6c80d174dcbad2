from typing import Any

import pytest

from egress_policy.management.import_report import (
    ImportLine,
    ImportReport,
    assumptions_of,
    counts_of,
    messages_of,
    numbers_in_words,
)


def report(*results: ImportLine, **fields: Any) -> ImportReport:
    counts = dict.fromkeys(("created", "updated", "differs", "skipped", "failed"), 0)
    return ImportReport(**{"dry_run": False, **counts, **fields}, results=results)


def failed(line: int, message: str) -> ImportLine:
    return ImportLine(line=line, outcome="failed", message=message)


def test_equal_messages_appear_once_with_all_their_lines() -> None:
    created = ImportLine(line=2, outcome="created")
    said = messages_of(report(failed(1, "a"), created, failed(3, "b"), failed(4, "a")))
    assert said == [("failed", "a", (1, 4)), ("failed", "b", (3,))]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([3], "3"),
        ([3, 4, 5, 9], "3-5 and 9"),
        ([1, 3, 5], "1, 3 and 5"),
        (range(1, 1687), "1-1686"),
        (range(1, 4001, 2), "1, 3, 5, 7, 9, 11, 13, 15 and 1,992 more"),
    ],
)
def test_line_numbers_are_written_in_few_words(numbers: list[int], words: str) -> None:
    assert numbers_in_words(numbers) == words


def test_counts_name_what_is_rare_only_where_it_is() -> None:
    assert counts_of(report(created=1)) == "1 proxy created, 0 skipped, 0 failed"
    counts = {"created": 2, "updated": 3, "differs": 1, "skipped": 4, "failed": 5}
    said = "2 proxies would be created, 3 would be updated, 4 skipped, 1 differs, 5 failed"
    assert counts_of(report(dry_run=True, **counts)) == said


def test_types_that_were_assumed_are_counted() -> None:
    lines = [
        ImportLine(line=number, outcome="created", type=type_, assumes_type=assumes)
        for number, (type_, assumes) in enumerate(
            [("socks5", True), ("http", False), ("socks5", True), ("http", True)], 1
        )
    ]
    assert list(assumptions_of(report(*lines))) == [
        ("socks5", "2 lines name no type: taken as socks5"),
        ("http", "1 line names no type: taken as http"),
    ]
    items = report(lines[3], unit="item")
    assert list(assumptions_of(items)) == [("http", "1 item names no type: taken as http")]
