from pathlib import Path

import pytest

from egress_policy.management.doctor import Finding, examine
from egress_policy.proxy.filters import compile_filter
from tests.helpers.shell import Shell


def found_in(folder: Path, policy: Path | None = None) -> list[Finding]:
    registry = str(folder / "egress.db")
    return list(examine("localhost", lambda: folder, registry, policy, compile_filter))


def levels(findings: list[Finding], word: str) -> list[str]:
    return [one.level for one in findings if word in one.what]


def test_new_machine_has_nothing_that_fails(tmp_path: Path) -> None:
    findings = found_in(tmp_path)
    assert [one for one in findings if one.level == "fail"] == []
    assert levels(findings, "mitmproxy") == ["ok"]
    assert levels(findings, "Python") == ["ok"]
    assert len(levels(findings, "route")) == 2


def test_what_is_wrong_comes_with_what_to_do(tmp_path: Path, shell: Shell) -> None:
    shell("settings", "--set-default", "none")
    shell("token", "--new")
    (tmp_path / "egress-token").chmod(0o644)
    (tmp_path / "egress-echo-key").write_text("a key of the echo")
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 2\n")
    findings = found_in(tmp_path, policy)
    failed = {one.what: one.advice for one in findings if one.level == "fail"}
    assert any("egress-token has mode 0644" in what for what in failed)
    assert any("egress-echo-key has mode 0644" in what for what in failed)
    assert any("p.yaml" in what for what in failed)
    assert all(failed.values())
    assert levels(findings, "registry") == ["ok"]
    found = shell.json("doctor", "--name", "localhost", status=1)["findings"]
    assert {"level", "what", "advice"} == set(found[0])


def test_wrong_key_is_found(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("settings", "--set-default", "none")
    monkeypatch.setenv("EGRESS_KEY", "another key, long enough as well")
    assert "fail" in levels(found_in(tmp_path), "registry")
