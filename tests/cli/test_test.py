"""How proxies fare."""

import re
from pathlib import Path
from typing import Any

import pytest

from egress_policy.cli.test import _steps
from egress_policy.management.test_result import TestResult
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy
from tests.helpers.shell import Shell


def test_test_asks_for_names_and_fails_with_the_proxy(shell: Shell) -> None:
    shell("test", status=1)
    assert "--all" in shell.err
    shell("proxies", "add", "one", "--host", "127.0.0.1", "--port", "1")
    assert "connect_refused" in shell("test", "--all", status=1)
    (result,) = shell.json("test", "one", status=1)
    assert not result["ok"]


async def test_test_goes_through_the_proxy(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    async with Origin() as origin, Socks5Proxy() as proxy:

        def commands() -> None:
            shell("settings", "--set-test-url", origin.url())
            shell("proxies", "add", f"socks5://127.0.0.1:{proxy.port}#one")
            (result,) = shell.json("test", "one")
            assert result["ok"]
            assert result["peer_family"] == "ipv4"

        await asyncio.to_thread(commands)
    assert proxy.accepted == 1


def test_results_are_sorted_by_time_with_units_and_whole_at_80_columns(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = [
        result("slow", total_ms=912.4, connect_ms=0.42, handshake_ms=11.1, first_byte_ms=900.0),
        result("gone", ok=False, reason="connect_refused", detail="Connection to it was refused"),
        result("fast", total_ms=9.94, dns_ms=1.0, connect_ms=8.94),
        result("away", ok=False, reason="connect_timeout", total_ms=3.0),
    ]
    by_name = {one.proxy: one for one in tested}
    for name in by_name:
        shell("proxies", "add", f"socks5://192.0.2.1:1080#{name}")

    async def answered(_: object, name: str) -> TestResult:
        return by_name[name]

    monkeypatch.setattr("egress_policy.management.probes.Probes.test", answered)
    monkeypatch.setattr("egress_policy.cli.output._columns", lambda: 80)
    said = shell("test", "--all", status=1)
    assert all(len(line) <= 80 for line in said.splitlines())
    head, *rows, summary = said.splitlines()
    assert head.split() == ["PROXY", "RESULT", "TIME", "HOP", "EGRESS", "IP", "DETAILS"]
    found = [row.split()[0] for row in rows if not row.startswith(" ")]
    assert found == ["fast", "slow", "away", "gone"]
    assert re.search(r"fast +ok +9\.9 ms +IPv6 +2001:db8:5:6:7:8:9:1234 +\S+", said)
    assert re.search(r"slow +ok +912 ms", said)
    assert summary == "4 tested: 2 good, 2 failed"
    monkeypatch.undo()
    assert _steps(by_name["slow"]) == "connect 0.4 ms, handshake 11 ms, first byte 900 ms"


def result(name: str, *, ok: bool = True, **said: Any) -> TestResult:
    seen = {"egress_ip": "2001:db8:5:6:7:8:9:1234", "peer_family": "ipv6"} if ok else {}
    return TestResult(
        ok=ok, at="2026-01-31T23:59:59.123Z", proxy=name, family="ipv6", **seen, **said
    )
