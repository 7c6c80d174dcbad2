"""The audit distinguishes a weakness from a failed query."""

import pytest

from tests.audit.__main__ import report

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
WEAK = {
    "name": "weak",
    "version": "2.0",
    "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}],
}
UNKNOWN = {"name": "unknown", "skip_reason": "not found: unknown (3.0)"}


def test_a_weakness_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([SOUND, WEAK, UNKNOWN]) == 1
    said = capsys.readouterr().out
    assert "weak 2.0: CVE-2026-1, fixed in 2.1" in said
    assert "2 packages audited, 1 weak" in said


def test_failed_query_is_reported_but_is_no_finding(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report([SOUND, UNKNOWN]) == 0
    assert "1 could not be asked about: not found: unknown (3.0)" in capsys.readouterr().out
