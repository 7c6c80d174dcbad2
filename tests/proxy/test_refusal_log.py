"""Each refusal has one line in the log, and a thousand of them have few."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import Reason
from egress_policy.model.decision import Refusal
from egress_policy.proxy import refusal_log
from egress_policy.proxy.refusal_log import TEXTS, WINDOW, RefusalLog
from tests.helpers.client_paths import WAYS, attempt, strategy_of, target_of
from tests.helpers.clients import http_get, socks5
from tests.helpers.clock import Clock
from tests.helpers.lab import V4
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin
from tests.helpers.proxies import Faults, HttpProxy, Socks5Proxy
from tests.helpers.scene import egress

ACCOUNT = {"username": "alice", "password": "s3cret-word"}
EXIT = {"name": "exit", "host": V4, **ACCOUNT}


def lines(mitm: Mitm) -> list[str]:
    return [line for line in mitm.text.splitlines() if line.startswith("egress refused: ")]


@pytest.mark.parametrize(
    ("reason", "way"),
    [
        *((reason, way) for way in WAYS for reason in (Reason.RULE, Reason.HANDSHAKE_FAILED)),
        *((Reason.NO_RECORD, way) for way in ("http", "https eager", "tcp lazy")),
        *((Reason.CONNECT_REFUSED, way) for way in ("http", "https eager", "tcp lazy")),
    ],
)
async def test_a_refusal_has_one_line_whatever_the_way(
    reason: Reason, way: str, tmp_path: Path
) -> None:
    faults = Faults(reset="handshake") if reason is Reason.HANDSHAKE_FAILED else None
    proxy = Socks5Proxy(credentials=("bob", "another"), faults=faults)
    async with target_of(way) as origin, proxy:
        exit_ = EXIT | {"type": "socks5", "port": proxy.port}
        if reason is Reason.CONNECT_REFUSED:
            exit_["port"] = 9
        if reason is Reason.NO_RECORD:
            exit_ |= {"host": "exit.test", "family": "ipv6"}
        rules = [{"use": "refuse" if reason is Reason.RULE else "exit"}]
        options: dict[str, Any] = {"connection_strategy": strategy_of(way)}
        hosts = {"exit.test": V4}
        async with egress(tmp_path, proxies=[exit_], rules=rules, hosts=hosts, **options) as mitm:
            assert await attempt(mitm, way, origin) in (0, 503)
            await mitm.until(lambda: lines(mitm))
    (line,) = lines(mitm)
    assert line.startswith(f"egress refused: {reason.code} {reason}: ")
    assert "s3cret-word" not in mitm.text


async def test_a_connection_without_a_flow_has_its_line(tmp_path: Path) -> None:
    """A SOCKS5 client gets only a code, so the log has to say why."""
    proxies = [EXIT | {"port": 9}]
    mode = ["socks5@127.0.0.1:0"]
    async with egress(tmp_path, proxies=proxies, rules=[{"use": "exit"}], mode=mode) as mitm:
        with pytest.raises((ConnectionError, EOFError)):
            async with socks5(mitm.port, "origin.test", 443):
                """Not opened."""
        await mitm.until(lambda: lines(mitm))
    (line,) = lines(mitm)
    why = "Proxy exit: cannot connect to 127.0.0.1 port 9: Connection refused; refusing to egress"
    assert line.endswith(f"PROXY_UNREACHABLE connect_refused: {why}")


async def test_a_proxy_that_wants_other_credentials_for_a_request_has_its_line(
    tmp_path: Path,
) -> None:
    async with Origin() as origin, HttpProxy(credentials=("bob", "another")) as proxy:
        exits = [EXIT | {"port": proxy.port}]
        async with egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm:
            assert (await http_get(mitm.port, origin.url())).status == 503
    (line,) = lines(mitm)
    assert line.startswith("egress refused: PROXY_UNREACHABLE proxy_auth: Proxy exit: it wants")


# --- how much is written


def refusal(number: int = 0) -> Refusal:
    return Refusal(Reason.RULE, f"Number {number} may not leave")


def text(number: int = 0) -> str:
    return f"egress refused: EGRESS_REFUSED rule: Number {number} may not leave"


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = caplog.messages[:]
    caplog.clear()
    return found


def test_equal_refusals_are_written_once_a_second_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    log = RefusalLog(clock)
    for _ in range(1000):
        log.note(refusal())
    assert messages(caplog) == [text()]
    clock.now += WINDOW
    log.note(refusal())
    assert messages(caplog) == [f"{text()} (999 more)"]
    clock.now += WINDOW
    log.flush()
    assert messages(caplog) == [f"{text()} (1 more)"]
    clock.now += WINDOW
    log.flush()
    assert messages(caplog) == []
    log.note(refusal())
    assert messages(caplog) == [text()]


def test_different_refusals_are_written_each_and_not_without_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    log = RefusalLog(clock)
    for number in range(TEXTS + 7):
        log.note(refusal(number))
    assert messages(caplog) == [text(number) for number in range(TEXTS)]
    clock.now += WINDOW
    log.flush()
    assert messages(caplog) == ["egress refused: 7 more for other reasons or targets"]


async def test_the_count_is_logged_even_if_nothing_follows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(refusal_log, "WINDOW", 0.01)
    clock, told = Clock(), asyncio.Event()
    log = RefusalLog(clock)
    for _ in range(3):
        log.note(refusal())
    clock.now += 1
    asyncio.get_running_loop().call_later(0.02, told.set)
    await told.wait()
    assert messages(caplog) == [text(), f"{text()} (2 more)"]
