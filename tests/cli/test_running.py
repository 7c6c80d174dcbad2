"""Who answers a command: the mitmproxy that runs on the folder, or what lies there."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from egress_policy import default_addons
from egress_policy.cli import main
from egress_policy.files.run_file import NAME, RunFile
from tests.helpers.mitm import Mitm
from tests.helpers.scene import write_policy

Capture = pytest.CaptureFixture[str]
POLICY: dict[str, Any] = {
    "proxies": [{"name": "exit", "host": "127.0.0.1", "port": 1}],
    "pools": [{"name": "homes", "members": ["exit"]}],
    "rules": [{"hosts": ["*.example"], "use": "exit", "name": "mine"}],
    "default": "refuse",
}
READING = [
    (["explain", "http://www.example/"], 0, "exit: dials 127.0.0.1 port 1"),
    (["explain", "http://other.test/"], 1, "EGRESS_REFUSED default"),
    (["test", "exit"], 1, "connect_refused"),
    (["test", "--all"], 1, "connect_refused"),
    (["proxies", "list"], 0, "exit"),
    (["proxies", "list", "-q", "nothing"], 0, "NAME"),
    (["proxies", "show", "exit"], 0, "used by rule"),
    (["pools", "list"], 0, "homes"),
    (["pools", "show", "homes"], 0, "exit"),
    (["rules", "list"], 0, "mine"),
    (["rules", "show", "mine"], 0, "*.example"),
    (["assign"], 0, "SCOPE"),
    (["settings"], 0, "test_url"),
    (["export"], 0, "http://127.0.0.1:1"),
    (["status"], 0, "policy.yaml"),
]


def mitm_on(folder: Path, policy: Path, listen: str = "127.0.0.1:0") -> Mitm:
    return Mitm(
        folder,
        *default_addons(),
        egress_policy=str(policy),
        egress_registry=str(folder / "egress.db"),
        egress_listen=listen,
        egress_token_file=str(folder / "a-token"),
        egress_hosts_file="",
    )


def ask(folder: Path, *arguments: str) -> int:
    return main([*arguments, "--confdir", str(folder)])


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EGRESS_KEY", raising=False)


async def test_mitmproxy_that_runs_answers_all_that_reads(tmp_path: Path, capsys: Capture) -> None:
    policy, folder = write_policy(tmp_path / "policy.yaml", **POLICY), tmp_path / "conf"
    async with mitm_on(folder, policy):
        url = json.loads((folder / NAME).read_text())["url"]
        for arguments, status, answer in READING:
            assert await asyncio.to_thread(ask, folder, *arguments) == status, arguments
            out, err = capsys.readouterr()
            assert answer in out
            about = f"mitmproxy at {url} (policy file {policy}, registry {folder / 'egress.db'})"
            assert err == about + "\n"
        assert await asyncio.to_thread(ask, folder, "proxies", "show", "nobody") == 1
        assert "no such" in capsys.readouterr().err
        await asyncio.to_thread(ask, folder, "token")
        assert capsys.readouterr().out == (folder / "a-token").read_text()
        other = write_policy(tmp_path / "other.yaml", default="direct")
        hypothetical = ["explain", "http://other.test/", "--policy", str(other)]
        assert await asyncio.to_thread(ask, folder, *hypothetical) == 0
        assert f"asked without mitmproxy: policy file {other}, reg" in capsys.readouterr().err
    assert not (folder / NAME).exists()
    assert await asyncio.to_thread(ask, folder, "proxies", "list") == 0
    assert capsys.readouterr().err.startswith("no mitmproxy is running: registry alone (")


async def test_listener_at_all_addresses_of_ipv6_is_asked_on_loopback(
    tmp_path: Path, capsys: Capture
) -> None:
    policy, folder = write_policy(tmp_path / "policy.yaml", **POLICY), tmp_path / "conf"
    async with mitm_on(folder, policy, "[::]:0"):
        assert await asyncio.to_thread(ask, folder, "rules", "list") == 0
    assert capsys.readouterr().err.startswith("mitmproxy at http://[::1]:")


async def test_one_that_does_not_take_the_token_or_does_not_listen_is_ignored_with_a_word(
    tmp_path: Path, capsys: Capture
) -> None:
    policy, folder = write_policy(tmp_path / "policy.yaml", **POLICY), tmp_path / "conf"
    async with mitm_on(folder, policy):
        await asyncio.to_thread(ask, folder, "token", "--new")
        capsys.readouterr()
        assert await asyncio.to_thread(ask, folder, "proxies", "list") == 0
        assert "ignored: http" in (err := capsys.readouterr().err)
        assert "does not take the token" in err
        assert "no mitmproxy answers: registry alone" in err
    gone = RunFile()
    gone.write(folder, "http://127.0.0.1:1/", folder / "a-token")
    assert await asyncio.to_thread(ask, folder, "proxies", "list") == 0
    assert "does not answer" in capsys.readouterr().err
    gone.remove()
