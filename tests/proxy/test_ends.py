"""Who ended a connection: this process or its peer. Each is told, and judged, for its own ends.

One scene ends everything that is under way by one kind of way out, at all moments of its life at
once. The proxy of each moment has a half-open circuit, and a pool with a second member.
"""

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, NamedTuple

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h11 import RemoteProtocolError
from mitmproxy import http
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from egress_policy.errors import Reason
from egress_policy.model.decision import Egress
from egress_policy.policy import hop
from egress_policy.policy.fault import Cause
from egress_policy.policy.health import Health
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.client_paths import origin_for
from tests.helpers.clients import Response, connect, http_get, patience, wire
from tests.helpers.lab import V4, refusal_in, request_to, tls_for
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Origin, tls_context
from tests.helpers.proxies import HttpProxy, Socks5Proxy, entry, make
from tests.helpers.scene import egress, reload_policy, write_policy
from tests.helpers.server import LabServer

MADE: Final = ("dns", "dial", "tls", "greeting", "asked")
"""Moments while a connection is made: its proxy is looked up, is dialled, begins TLS, is greeted,
and knows the target."""
USED: Final = ("request", "answer", "tunnel")
"""Moments when it carries a request, half an answer, or whatever a client sends."""


@dataclass(frozen=True)
class Way:
    """A way out. ``skips`` are the moments that it does not have."""

    type_: str
    skips: tuple[str, ...]
    forwards: bool = False

    @property
    def moments(self) -> list[str]:
        return [one for one in (*MADE, *USED) if one not in self.skips]


WAYS: Final = {
    "direct": Way("direct", ("tls", "greeting", "asked")),
    "socks5": Way("socks5", ("tls",)),
    "http": Way("http", ("tls", "greeting")),
    "forward": Way("http", ("tls", "greeting", "asked", "tunnel"), forwards=True),
    "https": Way("https", ("greeting",)),
    "forward over TLS": Way("https", ("greeting", "asked", "tunnel"), forwards=True),
}


class Upstream(LabServer):
    """Both a proxy and its only target. It stops at one moment, until it may close or go on."""

    def __init__(self, way: Way, moment: str = "", tls: SSLContext | None = None) -> None:
        super().__init__(tls=tls_for(V4, "proxy.test") if way.type_ == "https" else tls)
        self.way, self.moment = way, moment
        self.reached, self.close = asyncio.Event(), asyncio.Event()
        self.goes_on = asyncio.Event()
        self.requests = 0

    async def at(self, moment: str) -> None:
        if moment == self.moment:
            self.reached.set()
            ends = [asyncio.ensure_future(one.wait()) for one in (self.close, self.goes_on)]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in ends:
                    one.cancel()
            if self.close.is_set():
                raise EOFError

    async def before_tls(self, writer: asyncio.StreamWriter) -> None:
        await self.at("tls")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.way.type_ == "socks5":
            await reader.readexactly(3)
            await self.at("greeting")
            writer.write(b"\x05\x00")
            await reader.readexactly((await reader.readexactly(5))[4] + 2)
            await self.at("asked")
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
        elif self.way.type_ != "direct" and not self.way.forwards:
            await reader.readuntil(b"\r\n\r\n")
            await self.at("asked")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        if self.moment == "tunnel":
            writer.write(await reader.readexactly(4))
            await self.at("tunnel")
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        await self.at("request")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
        await self.at("answer")
        writer.write(b"half")
        await reader.read()


class Dials:
    """Holds the connections to one port until ``fails`` is done: with an exception they fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._connects, self.port = loop.sock_connect, 0
        self.begun = asyncio.Event()
        self.fails: asyncio.Future[None] = loop.create_future()
        patch.setattr(loop, "sock_connect", self._connect)

    async def _connect(self, sock: socket.socket, address: Any) -> None:
        if address[1] == self.port:
            self.begun.set()
            await asyncio.shield(self.fails)
        await self._connects(sock, address)


class Answering:
    """An addon that tells when an answer has begun."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.request.host == "answer.test" or flow.request.path == "/answer":
            self.begun.set()


class Ends:
    """An addon that ends a flow in its own way, at a moment that a test chooses."""

    def __init__(self) -> None:
        self.flow: http.HTTPFlow | None = None

    def request(self, flow: http.HTTPFlow) -> None:
        self.flow = flow

    def kill(self) -> None:
        assert self.flow
        self.flow.kill()

    def answer(self) -> None:
        assert self.flow
        self.flow.response = http.Response.make(418)


class Told(NamedTuple):
    """What a client is told: a status and words of the answer, or 0 if the connection ends."""

    status: int
    words: str = ""


class Judged(NamedTuple):
    """How the proxy fares: whether its half-open circuit has opened again, what worked, and what
    failed by its fault, or perhaps so."""

    opened: bool = False
    successes: int = 0
    cause: Cause | None = None


@dataclass
class Scene:
    """Clients at all moments of a way out. ``answers`` are what they are told, by moment."""

    mitm: Mitm
    way: Way
    moments: list[str]
    upstreams: dict[str, Upstream]
    other: Upstream
    dials: Dials
    found: asyncio.Event
    edit: Callable[[], Any]
    addon: Ends
    answers: dict[str, asyncio.Task[Told]]

    @property
    def health(self) -> Health:
        health: Health = self.mitm.master.addons.get("egressselect").router.standing.health
        return health

    def egress(self, moment: str) -> Egress:
        snapshot = self.mitm.master.addons.get("egressselect").router.snapshot
        return Egress(snapshot.proxies[moment], "ipv4")

    def judged(self, moment: str) -> Judged:
        """How the proxy of a moment fares. Its trial is over."""
        state = self.health.state(self.egress(moment))
        assert not state.trial, moment
        assert state.state in ("half-open", "open"), moment
        failed = state.last_failure.cause if state.last_failure else None
        assert bool(failed) == bool(state.failures), moment
        return Judged(state.state == "open", state.successes, failed)

    def cut(self, moment: str = "") -> None:
        config = find(EgressConfig)
        assert config
        assert config.cut(moment)

    def marks(self, moment: str) -> list[object]:
        """What the flows of a moment say about their end."""
        flows = [one for one in self.mitm.http_flows if one.request.host == f"{moment}.test"]
        return [one.metadata.get("egress.cut") for one in flows]

    async def told(self) -> dict[str, Told]:
        async with patience("an answer to each client"):
            return {moment: await answer for moment, answer in self.answers.items()}


def half_open(health: Health, egress_: Egress) -> None:
    """Let the circuit of a proxy wait for a trial by a live connection."""
    now = time.monotonic()
    record = health._record_of(egress_, now)
    record.circuit._half_open(now)
    record.news()
    health._refresh(record, now)


@asynccontextmanager
async def scene(
    folder: Path,
    patch: pytest.MonkeyPatch,
    way: Way,
    client: str,
    *skips: str,
    addon: Ends | None = None,
) -> AsyncIterator[Scene]:
    """Everything that comes to the moments of a way, but for ``skips``."""
    moments = [one for one in way.moments if one not in skips]
    if client == "connect":
        moments = [one for one in moments if one in MADE]
    proxied, found = way.type_ != "direct", asyncio.Event()
    zone = {(f"{one}.test", "A"): Reply([V4], gate=None) for one in moments}
    zone["proxy.test" if proxied else "dns.test", "A"] = Reply([V4], gate=found)
    async with AsyncExitStack() as stack:
        nameserver = await stack.enter_async_context(Nameserver(zone))
        other = await stack.enter_async_context(Upstream(WAYS["socks5"]))
        upstreams = {one: await stack.enter_async_context(Upstream(way, one)) for one in moments}
        proxies = [entry("socks5", other, name="other")] + [
            entry(
                way.type_ if proxied else "socks5",
                upstream,
                name=one,
                host="proxy.test" if one == "dns" else V4,
                family="ipv4",
                **({} if way.type_ in ("direct", "socks5") or way.forwards else CONNECT),
            )
            for one, upstream in upstreams.items()
        ]
        pools = [
            {"name": f"pool-{one}", "members": [one, "other"], "strategy": "first"}
            for one in moments
        ]
        use: dict[str, Any] = {"use": "direct", "family": "ipv4"}
        spared = [{"hosts": [f"not-{one}"], "use": f"pool-{one}"} for one in moments]
        rules = [{"hosts": [f"{one}.test"], "use": f"pool-{one}"} for one in moments]
        policy: dict[str, Any] = {"proxies": proxies, "pools": pools}
        mitm = await stack.enter_async_context(
            egress(
                folder,
                **policy,
                rules=[*spared, *(rules if proxied else [use])],
                dns=nameserver.port,
            )
        )
        mitm.master.addons.add(answering := Answering(), addon := addon or Ends())
        dials = Dials(patch)
        if "dial" in moments:
            dials.port = upstreams["dial"].port

        async def edit() -> None:
            write_policy(folder / "policy.yaml", **policy, rules=[*spared, {"use": "refuse"}])
            await reload_policy()

        made = Scene(mitm, way, moments, upstreams, other, dials, found, edit, addon, {})
        for one in moments if proxied else ():
            half_open(made.health, made.egress(one))
        for one, upstream in upstreams.items():
            target = f"{one}.test:{80 if proxied else upstream.port}"
            asking = ask(mitm.port, target, tunnel=one == "tunnel" or client == "connect")
            made.answers[one] = asyncio.create_task(asking)
        async with patience("each moment"):
            for one, upstream in upstreams.items():
                reached = {"dns": nameserver.arrived, "dial": dials.begun}
                await reached.get(one, upstream.reached).wait()
            if "answer" in moments:
                await answering.begun.wait()
        yield made
        assert [name for name, _ in nameserver.queries if proxied and name != "proxy.test"] == []
        assert all(upstream.requests <= 1 for upstream in upstreams.values())
        for flow in mitm.http_flows:
            if flow.response and flow.response.status_code == 503:
                assert flow.metadata["egress.code"] == flow.response.headers["x-egress-error"]


CONNECT: Final = {"plain_http": "connect"}


async def ask(port: int, target: str, *, tunnel: bool) -> Told:
    """What a client is told that asks for something, or for a tunnel."""
    async with wire(port) as client:
        try:
            if not tunnel:
                return told(await client.request("GET", f"http://{target}/", target))
            answer = await client.request("CONNECT", target, target)
            if answer.status != 200 or not target.startswith("tunnel"):
                return told(answer)
            await client.send(b"\x00raw")
            await client.receive(4)
            assert await client.closed() == b""
        except (EOFError, OSError, RemoteProtocolError):
            pass
        return Told(0)


def told(answer: Response) -> Told:
    return Told(answer.status, answer.body.decode())


def succeeded(way: Way, moment: str) -> int:
    """Whether the proxy has shown by then that it works. One that forwards shows it when it
    answers."""
    return int(moment in USED and not (moment == "request" and way.forwards))


clients = pytest.mark.parametrize(
    ("way", "client"),
    [
        pytest.param(way, client, id=f"{name}-{client}")
        for name, way in WAYS.items()
        for client in ("request", "connect")
        if not (way.forwards and client == "connect")  # a tunnel is not forwarded
    ],
)


@clients
@pytest.mark.parametrize("by", ["edit", "hand"])
async def test_a_cut_is_told_as_one_and_is_held_against_no_proxy(
    by: str, client: str, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, way, client) as made:
        if by == "edit":
            await made.edit()
        else:
            made.cut()
        made.found.set()
        for moment, told in (await made.told()).items():
            cut = "changed meanwhile" if by == "edit" else "were cut by hand"
            status, words = 503 if moment in MADE else 502, cut
            if moment == "tunnel":
                status, words = 0, ""
            elif (by, moment) == ("hand", "dns"):  # there was nothing to cut yet
                status, words = 200, ""
            elif by == "edit" and moment in MADE and client == "request":
                words = "The policy refuses this target"
            assert (moment, told.status) == (moment, status)
            assert words in told.words
            if way.type_ != "direct":
                goes_on = status == 200
                expected = Judged(successes=succeeded(way, moment) or int(goes_on))
                assert (moment, made.judged(moment)) == (moment, expected)
        assert made.other.accepted == 0


@clients
async def test_a_client_that_leaves_is_held_against_no_proxy(
    client: str, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, way, client) as made:
        for answer in made.answers.values():
            answer.cancel()
        await made.mitm.until(lambda: not made.mitm.clients)
        made.found.set()
        async with patience("the end of the look-up"):
            while way.type_ != "direct" and made.health.state(made.egress("dns")).trial:
                await asyncio.sleep(0)
        if "answer" in made.moments:
            await made.mitm.until(lambda: made.marks("answer"))
            assert made.marks("answer") == ["client"]
        for moment in made.moments if way.type_ != "direct" else ():
            expected = Judged(successes=succeeded(way, moment))
            assert (moment, made.judged(moment)) == (moment, expected)
        assert made.other.accepted == 0


OF_PEER: Final = {
    "dial": Cause.REFUSED,
    "tls": Cause.BROKEN,
    "greeting": Cause.BROKEN,
    "asked": Cause.UNDECIDED,
    "request": Cause.UNDECIDED,
}
"""Causes of what fails when the peer closes. The last two may be the target's doing: the other
member, through which it works, proves that they are not."""


@clients
async def test_an_end_by_the_peer_is_never_excused(
    client: str, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one excused because another connection is cut at the same time."""
    async with scene(tmp_path, monkeypatch, way, client, "dns") as made:
        made.dials.fails.set_exception(OSError(errno.ECONNREFUSED, "Connection refused"))
        for upstream in made.upstreams.values():
            upstream.close.set()
        cut = made.moments[-1] if way.type_ != "direct" else ""
        if cut:
            made.cut(cut)
        for moment, told in (await made.told()).items():
            if moment == cut:
                assert moment == "tunnel" or "were cut by hand" in told.words
                assert made.judged(moment) == Judged(successes=succeeded(way, moment))
                continue
            status, words, fails = 502, "closed connection", False
            if moment == "tunnel":
                status, words = 0, ""
            elif not succeeded(way, moment) and way.type_ != "direct":
                status, words, fails = 200, "", True
            elif moment == "dial":
                status, words = 503, "Connection refused"
            assert (moment, told.status) == (moment, status)
            assert words in told.words
            if way.type_ != "direct":
                works = succeeded(way, moment)
                expected = Judged(fails, works, OF_PEER[moment] if fails else None)
                assert (moment, made.judged(moment)) == (moment, expected)
        if cut != "answer" and "answer" in made.moments:
            assert made.marks("answer") == ["broken"]


OF_SILENCE: Final = {
    "dial": Cause.NO_ANSWER,
    "tls": Cause.SILENT,
    "greeting": Cause.SILENT,
    "asked": Cause.UNDECIDED,
}


@clients
async def test_a_limit_that_a_proxy_lets_pass_is_held_against_it(
    client: str, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress_policy.proxy.dialer.ADDRESS_TIMEOUT", 0.1)
    monkeypatch.setattr(hop, "HANDSHAKE_TIMEOUT", 0.1)
    async with scene(tmp_path, monkeypatch, way, client, "dns", *USED) as made:
        for moment, told in (await made.told()).items():
            if way.type_ == "direct":
                assert (told.status, "no answer from" in told.words.lower()) == (503, True)
                continue
            assert (moment, told.status) == (moment, 200)
            expected = Judged(True, 0, OF_SILENCE[moment])
            assert (moment, made.judged(moment)) == (moment, expected)


@clients
async def test_a_machine_without_descriptors_blames_nobody(
    client: str, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skips = [one for one in (*MADE, *USED) if one != "dial"]
    async with scene(tmp_path, monkeypatch, way, client, *skips) as made:
        made.dials.fails.set_exception(OSError(errno.EMFILE, "Too many open files"))
        told = (await made.told())["dial"]
        assert (told.status, "no file descriptor left" in told.words) == (503, True)
        if way.type_ != "direct":
            assert made.judged("dial") == Judged()
        assert made.other.accepted == 0


kinds = pytest.mark.parametrize("way", [WAYS["socks5"], WAYS["forward"]], ids=["socks5", "forward"])


@kinds
async def test_a_flow_that_was_killed_while_its_proxy_was_dialled_is_not_sent(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skips = [one for one in (*MADE, *USED) if one != "dial"]
    async with scene(tmp_path, monkeypatch, way, "request", *skips, addon=Ends()) as made:
        made.addon.kill()
        made.dials.fails.set_result(None)
        assert (await made.told())["dial"] == Told(0)
        (flow,) = await made.mitm.wait_for_flows(1)
        assert flow.error
        assert made.upstreams["dial"].requests == 0
        assert made.judged("dial") == Judged(successes=int(not way.forwards))


async def test_a_stream_that_was_reset_while_its_proxy_was_dialled_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin, Socks5Proxy() as proxy:
        exits, rules = [entry("socks5", proxy, family="ipv4")], [{"use": "exit"}]
        lazy: dict[str, Any] = {"connection_strategy": "lazy"}
        async with (
            egress(tmp_path, proxies=exits, rules=rules, **lazy) as mitm,
            connect(mitm.port, V4, origin.port) as client,
        ):
            mitm.master.addons.add(asked := Ends())
            dials = Dials(monkeypatch)
            dials.port = proxy.port
            await client.start_tls(mitm.ca_cert, "localhost", ["h2"])
            h2 = H2Connection(H2Configuration(client_side=True))
            h2.initiate_connection()
            _ask_by(h2, 1, origin.authority, "/reset")
            await client.send(h2.data_to_send())
            await dials.begun.wait()
            h2.reset_stream(1)
            _ask_by(h2, 3, origin.authority, "/next")
            await client.send(h2.data_to_send())
            while not asked.flow or asked.flow.request.path != "/next":
                await asyncio.sleep(0)
            dials.fails.set_result(None)
            await origin.until(lambda: origin.requests)
            await mitm.wait_for_flows(2)
            assert [one["path"] for one in origin.requests] == ["/next"]


async def test_a_client_that_resets_a_stream_in_its_answer_has_left(tmp_path: Path) -> None:
    async with (
        Upstream(WAYS["direct"], "answer", tls=tls_context("http/1.1")) as origin,
        egress(tmp_path, default="direct", connection_strategy="lazy") as mitm,
        connect(mitm.port, V4, origin.port) as client,
    ):
        mitm.master.addons.add(answering := Answering())
        await client.start_tls(mitm.ca_cert, "localhost", ["h2"])
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        _ask_by(h2, 1, origin.authority, "/answer")
        await client.send(h2.data_to_send())
        await answering.begun.wait()
        h2.reset_stream(1)
        await client.send(h2.data_to_send())
        await mitm.wait_for_flows(1)
        (flow,) = mitm.http_flows
        assert flow.metadata["egress.cut"] == "client"


async def test_an_answer_that_is_too_large_for_mitmproxy_did_not_break_off(tmp_path: Path) -> None:
    async with (
        Upstream(WAYS["direct"]) as origin,
        egress(tmp_path, default="direct", body_size_limit="4") as mitm,
    ):
        await http_get(mitm.port, f"http://{origin.authority}/")
        await mitm.wait_for_flows(1)
        (flow,) = mitm.http_flows
        assert flow.metadata["egress.cut"] == "killed"


def _ask_by(h2: H2Connection, stream: int, authority: str, path: str) -> None:
    method = [(":method", "POST"), (":scheme", "https"), (":authority", authority), (":path", path)]
    h2.send_headers(stream, method, end_stream=True)


@kinds
async def test_a_flow_that_was_killed_after_it_had_left_is_counted(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is what its proxy does."""
    skips = [one for one in (*MADE, *USED) if one != "request"]
    async with scene(tmp_path, monkeypatch, way, "request", *skips, addon=Ends()) as made:
        made.addon.kill()
        made.upstreams["request"].goes_on.set()
        assert (await made.told())["request"] == Told(0)
        config = find(EgressConfig)
        assert config
        (event,) = config.management.live.since(0)
        assert (event.proxy, event.status, event.cut) == ("request", 200, "killed")
        assert made.judged("request") == Judged(successes=1)


async def test_a_proxy_that_closes_is_not_excused_by_an_addon_that_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, skips = WAYS["forward"], [one for one in (*MADE, *USED) if one != "request"]
    async with scene(tmp_path, monkeypatch, way, "request", *skips, addon=Ends()) as made:
        made.addon.answer()
        made.upstreams["request"].close.set()
        assert (await made.told())["request"].status == 502
        assert made.judged("request") == Judged(cause=Cause.UNDECIDED)
        assert made.other.accepted == 0


@pytest.mark.parametrize("type_", ["socks5", "http"])
async def test_a_replayed_flow_that_is_cut_says_so(type_: str, tmp_path: Path) -> None:
    async with Origin() as origin, make(type_) as proxy:
        exits, rules = [entry(type_, proxy)], [{"use": "exit"}]
        async with egress(tmp_path, proxies=exits, rules=rules) as mitm:
            again = request_to(origin.url(path="/hold"))
            mitm.master.commands.call("replay.client", [again])
            await origin.until(lambda: origin.requests)
            config = find(EgressConfig)
            assert config
            assert config.cut("exit") == 1
            await mitm.master.addons.get("clientplayback").queue.join()
            assert again.error
            assert again.error.msg == "The connections of egress exit were cut by hand"
            assert again.metadata["egress.cut"] == "command"


class Forbids:
    """An addon that lets no connection to one port through."""

    def __init__(self, port: int) -> None:
        self.port = port

    def server_connect(self, data: ServerConnectionHookData) -> None:
        if data.server.address and data.server.address[1] == self.port:
            data.server.error = "not on a Sunday"


async def test_a_connection_that_another_addon_stops_is_told_as_that(tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy:
        exits = [entry("socks5", proxy), entry("socks5", 9, name="other")]
        pools = [{"name": "pool", "members": ["exit", "other"], "strategy": "first"}]
        async with egress(tmp_path, proxies=exits, pools=pools, rules=[{"use": "pool"}]) as mitm:
            mitm.master.addons.add(Forbids(proxy.port))
            refusal = refusal_in(await http_get(mitm.port, origin.url()))
            assert refusal["reason"] == Reason.ERROR
            assert f"port {proxy.port} was stopped here: not on a Sunday" in refusal["detail"]
            assert [(one["proxy"], one["fault"]) for one in refusal["tried"]] == [("exit", "own")]


class Spoils:
    """An addon that adds a header which cannot be sent."""

    def http_connect_upstream(self, flow: http.HTTPFlow) -> None:
        flow.request.headers["x-session"] = "7\r\nx: y"


async def test_a_handshake_that_another_addon_spoils_is_held_against_no_proxy(
    tmp_path: Path,
) -> None:
    async with origin_for(True) as origin, HttpProxy() as proxy:
        exits, rules = [entry("http", proxy)], [{"use": "exit"}]
        async with egress(tmp_path, proxies=exits, rules=rules) as mitm:
            mitm.master.addons.add(spoils := Spoils())
            for _ in range(4):
                answer = await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
                assert refusal_in(answer)["reason"] == Reason.HANDSHAKE_FAILED
            mitm.master.addons.remove(spoils)
            assert (await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)).status == 200


async def test_tls_that_cannot_be_begun_here_is_held_against_no_proxy(tmp_path: Path) -> None:
    """mitmproxy closes the connection then, which looks like an end by the proxy."""
    async with Origin() as origin, make("https") as proxy:
        exits, missing = [entry("https", proxy)], str(tmp_path / "missing.pem")
        mitm = egress(
            tmp_path,
            proxies=exits,
            rules=[{"use": "exit"}],
            ssl_verify_upstream_trusted_ca=missing,
            expect_errors=True,
        )
        async with mitm:
            config = find(EgressConfig)
            assert config
            for _ in range(4):
                refusal = refusal_in(await http_get(mitm.port, origin.url()))
                assert refusal["reason"] == Reason.ERROR
                assert "cannot begin TLS" in refusal["detail"]
                result = await config.management.probes.test("exit")
                assert (result.reason, result.fault) == (Reason.ERROR, "")
            assert proxy.requests == []


async def test_a_process_that_stood_still_sees_who_answered_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it wakes, the connection is there, and the time for it is over."""
    monkeypatch.setattr("egress_policy.proxy.dialer.ADDRESS_TIMEOUT", 0.02)
    loop = asyncio.get_running_loop()
    connects = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        connecting = asyncio.ensure_future(connects(sock, address))
        if address[1] == proxy.port:
            await asyncio.sleep(0)
            time.sleep(0.05)  # this is what is tested
        await connecting

    async with Origin() as origin, Socks5Proxy() as proxy:
        monkeypatch.setattr(loop, "sock_connect", sock_connect)
        async with egress(
            tmp_path, proxies=[entry("socks5", proxy)], rules=[{"use": "exit"}]
        ) as mitm:
            assert (await http_get(mitm.port, origin.url())).status == 200
