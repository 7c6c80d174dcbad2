"""Another member of a pool is tried while no tunnel stands, and never after that."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from h11 import RemoteProtocolError
from mitmproxy import http

from egress_policy.errors import Reason
from egress_policy.policy import hop
from tests.helpers.client_paths import WAYS, attempt, strategy_of, target_of
from tests.helpers.clients import Response, connect, http_get, session
from tests.helpers.lab import V4, egress_metadata, refusal_in, tls_for
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin
from tests.helpers.proxies import Faults, HttpProxy, LabProxy, Socks5Proxy, entry, make
from tests.helpers.scene import egress, reload_policy, write_policy
from tests.helpers.server import LabServer
from tests.helpers.slamming import slamming

TYPES = ["http", "https", "socks5"]
types = pytest.mark.parametrize("type_", TYPES)
ways = pytest.mark.parametrize("way", ["http", "https eager", "https lazy"])
GOOD, BAD = ("good", "g-secret"), ("bad", "b-secret")


def account(of: tuple[str, str]) -> dict[str, str]:
    return {"username": of[0], "password": of[1]}


def pool(*members: str, **more: Any) -> dict[str, Any]:
    return {"name": "homes", "members": list(members), "strategy": "first", **more}


@asynccontextmanager
async def scene(
    folder: Path, way: str, bad: LabServer | int, good: LabServer, type_: str, **more: Any
) -> AsyncIterator[tuple[Mitm, LabServer]]:
    """A pool of a bad member and a good one, each with its own account."""
    proxies = [
        entry(type_, bad) | {"name": "bad"} | account(BAD),
        entry(type_, good) | {"name": "good"} | account(GOOD),
    ]
    async with (
        target_of(way) as target,
        egress(
            folder,
            proxies=proxies,
            pools=[pool("bad", "good", **more)],
            rules=[{"use": "homes"}],
            connection_strategy=strategy_of(way),
        ) as mitm,
    ):
        yield mitm, target


async def ask(mitm: Mitm, target: LabServer, way: str = "http") -> Response:
    url = f"{way.split()[0]}://{target.authority}/"
    return await http_get(mitm.port, url, ca=mitm.ca_cert)


FAULTS = ["refused", "reset", "stalled", "garbage", "credentials"]
CASES = [
    (fault, way, type_)
    for fault, way, type_ in product(FAULTS, WAYS, TYPES)
    # Once it was forwarded a request is not sent again, whatever the answer is.
    if fault in FAULTS[:2] or type_ == "socks5" or way not in ("http", "replay")
]


@pytest.mark.parametrize(("fault", "way", "type_"), CASES)
async def test_another_member_is_tried_with_its_own_account(
    fault: str, way: str, type_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop, "HANDSHAKE_TIMEOUT", 0.3)
    faults = Faults(
        stall="handshake" if fault == "stalled" else None,
        reset="accept" if fault == "reset" else None,
        garbage=b"\x00 nonsense \xff\r\n\r\n" if fault == "garbage" else b"",
    )
    wanted = ("other", "account") if fault == "credentials" else BAD
    async with (
        make(type_, credentials=wanted, faults=faults) as bad,
        make(type_, credentials=GOOD) as good,
        scene(tmp_path, way, 1 if fault == "refused" else bad, good, type_) as (mitm, target),
    ):
        assert await attempt(mitm, way, target) == 200
        await mitm.until(lambda: mitm.flows)
        said = egress_metadata(mitm.flows[0])
        assert (said["proxy"], said["pool"], said["strategy"]) == ("good", "homes", "first")
        assert said["attempt"] == 2
        name, _, reason = said["tried"].partition(":")
        assert name == "bad"
        assert Reason(reason).code == "PROXY_UNREACHABLE"
        assert {request.credentials for request in good.requests} == {GOOD}
        assert GOOD not in {request.credentials for request in bad.requests}


@pytest.mark.parametrize("way", WAYS)
async def test_a_member_that_resets_at_once_is_to_blame(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mitmproxy breaks on a connection whose peer is gone before it looks, and says nothing."""
    with slamming(monkeypatch) as bad:
        async with (
            make("socks5", credentials=GOOD) as good,
            scene(tmp_path, way, bad, good, "socks5") as (mitm, target),
        ):
            assert await attempt(mitm, way, target) == 200
            await mitm.until(lambda: mitm.flows)
            assert egress_metadata(mitm.flows[0])["tried"] == "bad:connect_refused"
            router = mitm.master.addons.get("egressselect").router
            failures = [one.last_failure for one in router.standing.health._records.values()]
            (failure,) = filter(None, failures)
            assert failure.judgement.counts


@types
@ways
async def test_where_all_fail_the_refusal_names_each_of_them(
    way: str, type_: str, tmp_path: Path
) -> None:
    async with (
        make(type_, faults=Faults(reset="accept")) as last,
        scene(tmp_path, way, 1, last, type_) as (mitm, origin),
    ):
        body = refusal_in(await ask(mitm, origin, way))
        assert [one["proxy"] for one in body["tried"]] == ["bad", "good"]
        # Some proxies close where the target is to blame, once they were asked for it.
        faults = ["proxy", "undecided" if type_ == "http" else "proxy"]
        assert [one["fault"] for one in body["tried"]] == faults
        assert body["tried"][0]["reason"] == "connect_refused"
        assert all(one["ms"] >= 0 for one in body["tried"])
        assert (body["proxy"], body["reason"]) == ("good", body["tried"][1]["reason"])
        assert origin.accepted == 0


@pytest.mark.parametrize("failover", [0, 1, 3])
async def test_no_more_members_are_tried_than_failover_says(failover: int, tmp_path: Path) -> None:
    proxies = [entry("socks5", 1) | {"name": f"p{number}"} for number in range(5)]
    async with (
        Origin() as origin,
        egress(
            tmp_path,
            proxies=proxies,
            pools=[pool(*(one["name"] for one in proxies), failover=failover)],
            rules=[{"use": "homes"}],
        ) as mitm,
    ):
        body = refusal_in(await ask(mitm, origin))
        assert [one["proxy"] for one in body["tried"]] == [f"p{n}" for n in range(failover + 1)]
        (flow,) = mitm.flows
        assert egress_metadata(flow)["attempt"] == failover + 1


FINAL: dict[str, Callable[[], LabProxy]] = {
    "socks5 ruleset": lambda: _replying(0x02),
    "socks5 host unreachable": lambda: _replying(0x04),
    "socks5 refused": lambda: _replying(0x05),
    "http 403": lambda: _answering(403),
    "http 405": lambda: _answering(405),
    "http 451": lambda: _answering(451),
}


def _replying(code: int) -> LabProxy:
    proxy = Socks5Proxy(credentials=BAD)
    proxy.reply = code
    return proxy


def _answering(status: int) -> LabProxy:
    proxy = HttpProxy(credentials=BAD)
    proxy.status = status
    return proxy


@pytest.mark.parametrize("what", FINAL)
@pytest.mark.parametrize("way", ["https eager", "https lazy"])
async def test_what_the_target_or_a_rule_of_the_proxy_says_is_final(
    what: str, way: str, tmp_path: Path
) -> None:
    type_ = what.partition(" ")[0]
    async with (
        FINAL[what]() as bad,
        make(type_, credentials=GOOD) as good,
        scene(tmp_path, way, bad, good, type_) as (mitm, origin),
    ):
        body = refusal_in(await ask(mitm, origin, way))
        assert [one["proxy"] for one in body["tried"]] == ["bad"]
        assert good.accepted == 0


async def test_an_error_behind_the_tunnel_is_final(tmp_path: Path) -> None:
    """The target ended the connection: another member would only dial it again."""
    async with (
        make("socks5", credentials=BAD) as bad,
        make("socks5", credentials=GOOD) as good,
        Closing() as target,
        scene(tmp_path, "http", bad, good, "socks5") as (mitm, _),
    ):
        answer = await http_get(mitm.port, f"http://127.0.0.1:{target.port}/")
        assert answer.status == 502
        assert good.accepted == 0


class Saying(LabServer):
    """Says something and closes each connection when a request has come."""

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self.said = said

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.said)
        writer.close()


class Closing(Saying):
    """Closes each connection when a request has come."""

    def __init__(self) -> None:
        super().__init__(b"")


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_a_proxy_that_closes_without_an_answer(method: str, tmp_path: Path) -> None:
    """What is idempotent is sent again, in whole, by another member; nothing else is."""
    body = b"x" * 3000 if method != "GET" else b""
    async with (
        Closing() as bad,
        HttpProxy(credentials=GOOD) as good,
        scene(tmp_path, "http", bad, good, "http") as (mitm, target),
        session(mitm.port, f"http://{target.authority}") as client,
    ):
        answer = await client.request(method, "/", body=body)
        if method == "POST":
            refusal = refusal_in(answer)
            assert [one["proxy"] for one in refusal["tried"]] == ["bad"]
            assert refusal["reason"] == Reason.HANDSHAKE_FAILED
            assert target.accepted == 0
            return
        assert answer.status == 200
        assert isinstance(target, Origin)
        (request,) = target.requests
        assert (request["method"], request["body"]) == (method, body.decode())
        assert {one.credentials for one in good.requests} == {GOOD}


@pytest.mark.parametrize("said", [b"\x05\xff", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
async def test_once_a_byte_of_an_answer_came_nothing_is_sent_again(
    said: bytes, tmp_path: Path
) -> None:
    async with (
        Saying(said) as bad,
        HttpProxy(credentials=GOOD) as good,
        scene(tmp_path, "http", bad, good, "http") as (mitm, target),
    ):
        refusal = refusal_in(await ask(mitm, target))
        assert [one["proxy"] for one in refusal["tried"]] == ["bad"]
        assert good.accepted == 0


@types
@pytest.mark.parametrize("way", ["tcp eager", "tcp lazy", "https eager", "https lazy"])
async def test_what_a_member_sends_after_its_failure_reaches_nobody(
    way: str, type_: str, tmp_path: Path
) -> None:
    """So much of it that it has arrived before its connection is closed."""
    failure = b"\x05\x01\x00\x01" + bytes(6) if type_ == "socks5" else b"HTTP/1.1 502 No\r\n\r\n"
    tls = tls_for("127.0.0.1") if type_ == "https" else None
    async with (
        Flooding(failure, tls=tls) as bad,
        make(type_, credentials=GOOD) as good,
        scene(tmp_path, way, bad, good, type_) as (mitm, target),
    ):
        if way.startswith("https"):
            assert await attempt(mitm, way, target) == 200
            return
        async with connect(mitm.port, V4, target.port) as tunnel:
            await tunnel.send(b"\x00raw")
            assert await tunnel.receive(4) == b"\x00raw"


class Flooding(LabServer):
    """A proxy that cannot reach any target, and says far more than that."""

    def __init__(self, failure: bytes, **more: Any) -> None:
        super().__init__(**more)
        self.failure = failure

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.read(1)) == b"\x05":
            await reader.read(1000)
            writer.write(b"\x05\x02")
            await reader.read(1000)
            writer.write(b"\x01\x00")
            await reader.read(1000)
        else:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(self.failure + b"x" * 400_000)
        await writer.drain()
        await reader.read()


async def test_a_streamed_body_is_not_sent_again(tmp_path: Path) -> None:
    async with (
        Closing() as bad,
        HttpProxy(credentials=GOOD) as good,
        Origin() as origin,
        egress(
            tmp_path,
            proxies=[
                entry("http", bad) | {"name": "bad"},
                entry("http", good) | {"name": "good"} | account(GOOD),
            ],
            pools=[pool("bad", "good")],
            rules=[{"use": "homes"}],
            stream_large_bodies="1",
        ) as mitm,
        session(mitm.port, origin.url()) as client,
    ):
        answer = await client.request("PUT", "/", body=b"x" * 3000)
        assert answer.status == 503
        assert origin.requests == []


class Holding(LabServer):
    """Takes each request, and closes without an answer once that is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_close = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        self.asked.set()
        await self.may_close.wait()
        writer.close()


class Kept:
    """An addon that keeps each flow whose request is complete."""

    def __init__(self) -> None:
        self.flows: list[http.HTTPFlow] = []

    def request(self, flow: http.HTTPFlow) -> None:
        self.flows.append(flow)


@types
async def test_a_flow_that_was_killed_is_not_tried_again(type_: str, tmp_path: Path) -> None:
    """The first proxy has the connection, or even the request, while a person kills the flow."""
    async with (
        Holding() as bad,
        make(type_, credentials=GOOD) as good,
        scene(tmp_path, "http", bad, good, type_) as (mitm, origin),
    ):
        mitm.master.addons.add(kept := Kept())
        answer = asyncio.create_task(ask(mitm, origin))
        await bad.asked.wait()
        kept.flows[0].kill()
        bad.may_close.set()
        with pytest.raises((OSError, EOFError, RemoteProtocolError)):
            await answer
        assert good.accepted == 0


async def test_an_edit_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No member of the policy as it was is tried after an edit; the new policy decides."""
    monkeypatch.setattr(hop, "HANDSHAKE_TIMEOUT", 5.0)
    async with (
        make("socks5", credentials=BAD, faults=Faults(stall="handshake")) as bad,
        make("socks5", credentials=GOOD) as good,
        scene(tmp_path, "http", bad, good, "socks5") as (mitm, origin),
    ):
        answer = asyncio.create_task(ask(mitm, origin))
        await bad.until(lambda: bad.accepted)
        write_policy(tmp_path / "policy.yaml", rules=[{"use": "refuse"}])
        await reload_policy()
        assert refusal_in(await answer)["reason"] == Reason.RULE
        assert good.accepted == 0


async def test_the_budget_holds_for_all_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress_policy.policy.choosing.FAILOVER_BUDGET", 1.0)
    async with (
        make("socks5", faults=Faults(stall="accept")) as one,
        make("socks5", faults=Faults(stall="accept")) as other,
        scene(tmp_path, "http", one, other, "socks5", failover=5) as (mitm, origin),
    ):
        began = asyncio.get_running_loop().time()
        body = refusal_in(await ask(mitm, origin))
        spent = asyncio.get_running_loop().time() - began
        assert [entry["proxy"] for entry in body["tried"]] == ["bad"]
        assert spent < 5
