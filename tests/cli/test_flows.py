"""Flows of a running mitmproxy, a line each: those that are over, and those that come."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from egress_policy import default_addons
from egress_policy.cli.flows import _line
from egress_policy.management.live import LiveEvent
from tests.helpers.clients import http_get
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy
from tests.helpers.scene import write_policy
from tests.helpers.shell import Capture, Shell


def mitm_on(folder: Path, port: int) -> Mitm:
    exit_ = {"name": "exit", "type": "socks5", "host": "127.0.0.1", "port": port}
    rules = [{"hosts": ["127.0.0.1"], "use": "exit"}]
    policy = write_policy(folder / "policy.yaml", proxies=[exit_], rules=rules, default="refuse")
    return Mitm(
        folder,
        *default_addons(),
        egress_policy=str(policy),
        egress_listen="127.0.0.1:0",
        egress_token_file=str(folder / "token"),
    )


async def test_flows_that_are_over_a_line_each(tmp_path: Path, shell: Shell) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, mitm_on(tmp_path, proxy.port) as mitm:
        await http_get(mitm.port, origin.url(path="/a?b=1"))
        await http_get(mitm.port, "http://elsewhere.test/")

        def commands() -> None:
            url = re.escape(origin.url(path="/a?b=1"))
            way = rf"via exit 127\.0\.0\.1:{proxy.port} IPv4, rule #1, \S+.* ms to the exit"
            one, two = shell("flows").splitlines()
            assert re.fullmatch(rf"\d\d:\d\d:\d\d  200  GET {url}  {way}", one)
            assert two.endswith("503  GET http://elsewhere.test/  refused, default")
            assert shell("flows", "--refused").splitlines() == [two]
            assert shell("flows", "--proxy", "exit").splitlines() == [one]
            assert shell("flows", "--limit", "1").splitlines() == [two]
            found = shell.json("flows", "--limit", "1", "--proxy", "exit")
            assert [(event["proxy"], event["hop_port"]) for event in found] == [
                ("exit", proxy.port)
            ]

        await asyncio.to_thread(commands)


async def test_followed_flows_are_read_as_they_end_until_ctrl_c(tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy, mitm_on(tmp_path, proxy.port) as mitm:
        await http_get(mitm.port, origin.url(path="/before"))
        words = ["-m", "egress_policy.cli", "flows", "-f", "--json", "--confdir", str(tmp_path)]
        pipe = asyncio.subprocess.PIPE
        following = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=pipe, stderr=pipe
        )
        assert following.stdout
        try:
            assert json.loads(await following.stdout.readline())["path"] == "/before"
            await http_get(mitm.port, origin.url(path="/after"))
            assert json.loads(await following.stdout.readline())["path"] == "/after"
            following.send_signal(signal.SIGINT)
            _, err = await following.communicate()
        finally:
            if following.returncode is None:
                following.kill()
                await following.wait()
        assert following.returncode == 0
        assert len(err.splitlines()) == 1  # which mitmproxy it was


async def test_end_of_mitmproxy_ends_what_follows(tmp_path: Path, shell: Shell) -> None:
    async with mitm_on(tmp_path, 1) as mitm:
        following = asyncio.create_task(asyncio.to_thread(shell, "flows", "-f", status=1))
        await mitm.wait_for_log("flows/live': 200|GET '/api/v1/management/flows/live")
        mitm.options.update(egress_listen="")
        await following
    assert "has ended" in shell.err


def test_without_a_mitmproxy_it_says_how_to_start_one(shell: Shell) -> None:
    shell("flows", status=1)
    assert "make run" in shell.err


def event(**said: Any) -> LiveEvent:
    common: dict[str, Any] = {
        "at": 0.0, "flow_id": "f", "client": "127.0.0.1", "kind": "http", "method": "GET",
        "scheme": "https", "host": "x.test", "port": 443, "use": "direct", "rule": "default",
    }  # fmt: skip
    return LiveEvent(**{**common, **said})


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({}, "GET https://x.test"),
        ({"port": 8443, "path": "/a"}, "GET https://x.test:8443/a"),
        ({"host": "2001:db8::1", "path": "/"}, "GET https://[2001:db8::1]/"),
        ({"kind": "tcp", "method": "", "scheme": ""}, "TCP x.test:443"),
    ],
)
def test_request_is_what_a_person_would_write(said: dict[str, Any], what: str) -> None:
    assert f"  {what}  " in _line(event(**said))


def test_line_on_a_terminal_shows_the_way_of_a_long_url(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    parts = _line(event(path="/" + "long" * 40, address="192.0.2.1", hop_port=443, status=200))
    text = "".join(part if isinstance(part, str) else str(part.value) for part in parts)
    assert len(text) == 80
    assert "…" in text
    assert text.endswith("direct 192.0.2.1:443, default")
