"""The root: holds each server connection until the policy answers, and runs it through a tunnel."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from mitmproxy import connection
from mitmproxy.proxy import commands, context, events, layer, tunnel

from egress_policy.errors import Reason
from egress_policy.model.decision import Choice, Egress, Pin, Refusal, Route
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import HANDSHAKE_TIMEOUT, Outcome
from egress_policy.proxy.dialer import MintedServer
from egress_policy.proxy.questions import ConnectRequest, EgressConnectHook, Report, answer_with
from egress_policy.proxy.record import record_of
from egress_policy.proxy.refusal import UNANSWERED, RefusalText
from egress_policy.proxy.root import EgressRoot
from egress_policy.proxy.seams import make
from egress_policy.proxy.tunnel import TunnelExit
from egress_policy.proxy.via import via_for
from tests.helpers.clock import Clock
from tests.helpers.playbook import Dialogue, Do, Recorder, make_context

SOCKS = Proxy(name="exit", type="socks5", host="proxy.example.com", family="ipv4")
DIRECT = Egress(None, "ipv4")
DENIED = Refusal(Reason.RULE, "The policy refuses this target", host="origin.test", rule="#1")
METHOD, BOUND = b"\x05\x00", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"


def server(host: str = "origin.test", port: int = 443) -> connection.Server:
    return connection.Server(address=(host, port))


def direct(address: str = "192.0.2.1", port: int = 443, egress: Egress = DIRECT) -> Route:
    return Route(
        Choice(egress), Pin((address,), 4 if egress.family == "ipv4" else None), (address, port)
    )


def by_socks() -> Route:
    return Route(
        Choice(Egress(SOCKS, "ipv4"), rule="#1"), Pin(("192.0.2.9",), 4), ("origin.test", 443)
    )


class Inner(Recorder):
    """A child that may not be entered again before it has finished with an event."""

    busy = False

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        assert not self.busy, f"{event} in the middle of another event"
        self.busy = True
        yield from super().handle_event(event)
        self.busy = False

    _handle_event = handle_event


class RootDialogue:
    """A root over a recorder."""

    def __init__(self) -> None:
        self.ctx = make_context()
        self.inner = Inner(self.ctx)
        self.root = EgressRoot(self.ctx, self.inner)
        self.dialogue = Dialogue(self.root).start()

    def do(self, command: commands.Command) -> None:
        self.dialogue.say(Do(command))

    def ask(self, conn: connection.Server) -> EgressConnectHook:
        """The child opens a connection. Returns the question that follows."""
        self.do(commands.OpenConnection(conn))
        hook = self.dialogue.expect(EgressConnectHook)
        assert hook.data.server is conn
        assert hook.data.client is self.ctx.client
        return hook

    def answer(self, hook: EgressConnectHook, answer: Route | Refusal | None) -> None:
        hook.data.answer = answer
        self.dialogue.hook_done(hook)

    def dial(self, conn: connection.Server, route: Route) -> commands.OpenConnection:
        """The child opens a connection and the policy answers. Returns the attempt that follows."""
        self.answer(self.ask(conn), route)
        attempt = self.dialogue.expect(commands.OpenConnection)
        assert isinstance(attempt.connection, MintedServer)
        return attempt

    def connect(self, conn: connection.Server, route: Route) -> connection.Server:
        """The child gets a connection. Returns the hop that carries it."""
        attempt = self.dial(conn, route)
        self.open(attempt, route)
        assert self.outcomes(conn) == [None]
        assert conn.connected
        return attempt.connection

    def open(self, attempt: commands.OpenConnection, route: Route) -> None:
        """The attempt succeeds, and so does the handshake with a proxy."""
        self.dialogue.opened(attempt)
        if route.egress.proxy:
            for answer in (METHOD, BOUND):
                self.dialogue.expect(commands.SendData)
                self.take_limit()
                self.dialogue.receive(attempt.connection, answer)

    def take_limit(self) -> commands.RequestWakeup | None:
        """The clock that bounds the handshake, once it is set."""
        if self.dialogue.got and isinstance(self.dialogue.got[0], commands.RequestWakeup):
            return self.dialogue.expect(commands.RequestWakeup)
        return None

    def send(self, conn: connection.Server, data: bytes) -> commands.SendData:
        self.do(commands.SendData(conn, data))
        return self.dialogue.expect(commands.SendData)

    def outcomes(self, conn: connection.Server) -> list[str | None]:
        done = self.inner.of(events.OpenConnectionCompleted)
        return [event.reply for event in done if event.command.connection is conn]

    def received(self, conn: connection.Server) -> bytes:
        data = self.inner.of(events.DataReceived)
        return b"".join(event.data for event in data if event.connection is conn)

    def closed(self) -> list[connection.Connection]:
        return [event.connection for event in self.inner.of(events.ConnectionClosed)]

    def refusal(self, conn: connection.Server) -> Refusal:
        (text,) = self.outcomes(conn)
        assert isinstance(text, RefusalText)
        assert not conn.connected
        record = record_of(conn)
        assert record
        assert record.refusal is text.refusal
        return text.refusal


def stacks(scene: RootDialogue) -> list[type[layer.Layer]]:
    """The layers of tunnels that are kept for the client."""
    gc.collect()
    found = (one for one in gc.get_objects() if isinstance(one, tunnel.TunnelLayer | TunnelExit))
    return [type(one) for one in found if one.context.client is scene.ctx.client]


@pytest.mark.parametrize("route", [direct(), by_socks()])
def test_an_open_connection_keeps_no_layer_that_opened_it(route: Route) -> None:
    scene, conn = RootDialogue(), server()
    attempt = scene.dial(conn, route)  # which mitmproxy keeps as long as the connection
    assert stacks(scene)
    scene.open(attempt, route)
    assert stacks(scene) == []
    assert scene.send(conn, b"ping").connection is attempt.connection


def test_an_attempt_that_was_given_up_is_closed_if_it_succeeds_after_another() -> None:
    scene, conn = RootDialogue(), server()
    route = replace(direct(), pin=Pin(("192.0.2.1", "192.0.2.2"), 4))
    slow = scene.dial(conn, route)
    scene.dialogue.say(events.Wakeup(scene.dialogue.expect(commands.RequestWakeup)))
    scene.dialogue.opened(fast := scene.dialogue.expect(commands.OpenConnection))
    scene.dialogue.opened(slow)
    assert scene.dialogue.expect(commands.CloseConnection).connection is slow.connection
    scene.dialogue.closed(slow.connection)
    assert stacks(scene) == []
    assert scene.closed() == []
    assert scene.send(conn, b"ping").connection is fast.connection
    scene.dialogue.closed(fast.connection)
    assert scene.closed() == [conn]


def test_no_answer_is_a_refusal() -> None:
    scene, conn = RootDialogue(), server()
    scene.answer(scene.ask(conn), None)
    scene.dialogue.expect_nothing()
    assert scene.refusal(conn) is UNANSWERED


def test_a_refusal_reaches_the_child_whole() -> None:
    scene, conn = RootDialogue(), server()
    scene.answer(scene.ask(conn), DENIED)
    scene.dialogue.expect_nothing()
    assert scene.refusal(conn) is DENIED
    assert scene.outcomes(conn) == ["The policy refuses this target"]


def test_a_direct_route_dials_its_addresses_and_carries_data() -> None:
    scene, conn = RootDialogue(), server()
    hop = scene.connect(conn, direct("192.0.2.1"))
    assert hop.address == ("192.0.2.1", 443)
    sent = scene.send(conn, b"ping")
    assert (sent.connection, sent.data) == (hop, b"ping")
    scene.dialogue.receive(hop, b"pong")
    assert scene.received(conn) == b"pong"
    scene.dialogue.closed(hop)
    assert scene.closed() == [conn]


@pytest.fixture
def on_the_spot() -> Iterator[dict[str, Route | Refusal]]:
    """Answers by target host, given without a hook."""
    answers: dict[str, Route | Refusal] = {}

    def decide(request: object) -> None:
        if isinstance(request, ConnectRequest) and request.server.address:
            request.answer = answers.get(request.server.address[0])

    answer_with(decide)
    yield answers
    answer_with()


def test_an_immediate_answer_needs_no_hook(on_the_spot: dict[str, Route | Refusal]) -> None:
    scene, conn = RootDialogue(), server()
    on_the_spot["origin.test"] = direct("192.0.2.1")
    scene.do(commands.OpenConnection(conn))
    attempt = scene.dialogue.expect(commands.OpenConnection)
    scene.dialogue.opened(attempt)
    assert scene.outcomes(conn) == [None]
    assert scene.send(conn, b"ping").connection == attempt.connection
    scene.ask(server("elsewhere.test"))


def test_an_immediate_refusal_reaches_the_child_after_its_event(
    on_the_spot: dict[str, Route | Refusal],
) -> None:
    scene, conn = RootDialogue(), server()
    on_the_spot["origin.test"] = DENIED
    scene.do(commands.OpenConnection(conn))
    scene.dialogue.expect_nothing()
    assert scene.refusal(conn) is DENIED


@pytest.fixture
def reported() -> Iterator[list[Outcome]]:
    """The outcomes that are reported to the policy."""
    outcomes: list[Outcome] = []

    def note(request: object) -> None:
        if isinstance(request, Report):
            outcomes.append(request.outcome)

    answer_with(note)
    yield outcomes
    answer_with()


def told(outcomes: list[Outcome]) -> list[tuple[object, ...]]:
    """What is reported, without the times; forgets it."""
    found: list[tuple[object, ...]] = []
    for one in outcomes:
        assert 0 < one.began <= one.ended
        assert one.hop is None or one.hop >= 0
        cause = one.failure.cause if one.failure else None
        found.append((one.step, one.address, cause, one.hop is not None))
    outcomes.clear()
    return found


def test_each_dial_and_each_attempt_with_a_proxy_is_reported(reported: list[Outcome]) -> None:
    scene = RootDialogue()
    scene.connect(server(), by_socks())
    exit_ = "192.0.2.9"
    assert told(reported) == [("dial", exit_, None, False), ("attempt", exit_, None, True)]
    scene.connect(server(), direct())
    assert told(reported) == [("dial", "192.0.2.1", None, False)]
    scene.dialogue.opened(scene.dial(server(), direct()), "[Errno 111] Connection refused")
    assert told(reported) == [("dial", "192.0.2.1", Cause.REFUSED, False)]
    scene.dialogue.opened(scene.dial(server(), by_socks()), "[Errno 111] Connection refused")
    assert told(reported) == [
        ("dial", exit_, Cause.REFUSED, False),
        ("attempt", exit_, Cause.REFUSED, False),
    ]
    attempt = scene.dial(server(), by_socks())
    scene.dialogue.opened(attempt).closed(attempt.connection)
    assert told(reported) == [
        ("dial", exit_, None, False),
        ("attempt", exit_, Cause.BROKEN, False),
    ]


@pytest.mark.parametrize("mark", ["cut", "given_up"])
@pytest.mark.parametrize("failure", [None, "egress: given up"])
def test_a_dial_that_was_ended_here_is_not_reported(
    reported: list[Outcome], mark: str, failure: str | None
) -> None:
    scene = RootDialogue()
    attempt = scene.dial(server(), by_socks())
    setattr(attempt.connection, mark, True)
    scene.dialogue.opened(attempt, failure)
    assert not [one for one in reported if one.step == "dial"]


def test_a_dial_that_ended_with_its_client_says_that_it_ended_and_nothing_else(
    reported: list[Outcome],
) -> None:
    """It may have been the one trial of a proxy, which waits for its end."""
    scene = RootDialogue()
    attempt = scene.dial(server(), by_socks())
    scene.ctx.client.state = connection.ConnectionState.CLOSED
    scene.dialogue.opened(attempt, "connection cancelled")
    assert told(reported) == [("attempt", "192.0.2.9", Cause.NOBODY, False)]


def test_a_dial_without_a_descriptor_says_nothing_about_its_address(
    reported: list[Outcome],
) -> None:
    scene = RootDialogue()
    scene.dialogue.opened(scene.dial(server(), by_socks()), "[Errno 24] Too many open files")
    assert told(reported) == [("attempt", "192.0.2.9", Cause.OWN, False)]


def test_commands_for_other_connections_pass_unchanged() -> None:
    scene = RootDialogue()
    client = scene.ctx.client
    command = commands.SendData(client, b"to the client")
    scene.do(command)
    assert scene.dialogue.expect(commands.SendData) is command
    scene.dialogue.receive(client, b"from the client")
    (event,) = scene.inner.of(events.DataReceived)
    assert event.connection is client
    log = commands.Log("message")
    scene.do(log)
    assert scene.dialogue.expect(commands.Log) is log


def test_only_the_connection_waits_for_the_answer() -> None:
    scene, conn = RootDialogue(), server()
    hook = scene.ask(conn)
    scene.dialogue.receive(scene.ctx.client, b"meanwhile")
    assert [event.data for event in scene.inner.of(events.DataReceived)] == [b"meanwhile"]
    assert scene.outcomes(conn) == []
    scene.answer(hook, DENIED)
    assert scene.refusal(conn) is DENIED


def test_a_client_that_went_away_meanwhile_causes_no_dial() -> None:
    scene, conn = RootDialogue(), server()
    hook = scene.ask(conn)
    scene.dialogue.closed(scene.ctx.client)
    scene.answer(hook, direct())
    scene.dialogue.expect_nothing()
    (error,) = scene.outcomes(conn)
    assert error == "the client went away before the connection was made"
    assert not isinstance(error, RefusalText)
    record = record_of(conn)
    assert record
    assert record.refusal is None


def test_a_socks5_route_shakes_hands_before_the_child_hears() -> None:
    scene, conn = RootDialogue(), server()
    hop = scene.connect(conn, by_socks())
    assert hop.address == ("192.0.2.9", 1080)
    assert scene.send(conn, b"hello").connection == hop
    scene.dialogue.receive(hop, b"banner")
    assert scene.received(conn) == b"banner"
    record = record_of(conn)
    assert record
    assert (record.peer, record.egress) == (hop.address, by_socks().egress)


def test_bytes_after_the_last_reply_wait_until_the_child_knows_of_the_opening() -> None:
    scene, conn = RootDialogue(), server()
    attempt = scene.dial(conn, by_socks())
    scene.dialogue.opened(attempt).receive(attempt.connection, METHOD)
    scene.dialogue.receive(attempt.connection, BOUND + b"banner")
    kinds = [type(event) for event in scene.inner.seen[-2:]]
    assert kinds == [events.OpenConnectionCompleted, events.DataReceived]
    assert scene.received(conn) == b"banner"


class Chatty(Recorder):
    """A child that reacts to each event of a server, and notes begin and end."""

    def __init__(self, ctx: context.Context) -> None:
        super().__init__(ctx)
        self.notes: list[str] = []

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.notes.append(f"begin {type(event).__name__}")
        yield from super().handle_event(event)
        if isinstance(event, events.OpenConnectionCompleted):
            yield commands.SendData(event.command.connection, b"first")
            yield commands.SendData(event.command.connection, b"second")
        self.notes.append("end")

    _handle_event = handle_event


def test_events_of_a_tunnel_wait_until_the_child_has_finished_with_the_one_before() -> None:
    ctx, conn = make_context(), server()
    inner = Chatty(ctx)
    dialogue = Dialogue(EgressRoot(ctx, inner)).start()
    dialogue.say(Do(commands.OpenConnection(conn)))
    hook = dialogue.expect(EgressConnectHook)
    hook.data.answer = by_socks()
    dialogue.hook_done(hook)
    attempt = dialogue.expect(commands.OpenConnection)
    dialogue.opened(attempt).receive(attempt.connection, METHOD)
    dialogue.got.clear()
    dialogue.receive(attempt.connection, BOUND + b"banner")
    assert inner.notes[-4:] == [
        "begin OpenConnectionCompleted",
        "end",
        "begin DataReceived",
        "end",
    ]
    sent = [dialogue.expect(commands.SendData).data for _ in range(2)]
    assert sent == [b"first", b"second"]


def test_a_handshake_that_takes_too_long_ends_in_a_refusal() -> None:
    scene, conn = RootDialogue(), server()
    attempt = scene.dial(conn, by_socks())
    scene.dialogue.opened(attempt)
    scene.dialogue.expect(commands.SendData)
    limit = scene.take_limit()
    assert limit
    assert limit.delay == HANDSHAKE_TIMEOUT
    scene.dialogue.receive(attempt.connection, METHOD[:1])
    scene.dialogue.say(events.Wakeup(limit))
    closing = scene.dialogue.expect(commands.CloseConnection)
    assert closing.connection == attempt.connection
    scene.dialogue.closed(attempt.connection)
    refusal = scene.refusal(conn)
    assert refusal.reason is Reason.HANDSHAKE_FAILED
    assert "no end of the handshake in 10 s" in refusal.detail
    assert (refusal.proxy, refusal.rule) == ("exit", "#1")


def test_a_limit_that_comes_late_is_given_once_more(
    monkeypatch: pytest.MonkeyPatch, reported: list[Outcome]
) -> None:
    """This process stood still, so it is not the proxy that was silent. That is said once."""
    clock = Clock()
    monkeypatch.setattr("egress_policy.proxy.root.time", SimpleNamespace(monotonic=clock))
    scene, conn = RootDialogue(), server()
    attempt = scene.dial(conn, by_socks())
    scene.dialogue.opened(attempt)
    scene.dialogue.expect(commands.SendData)
    limit = scene.take_limit()
    assert limit
    clock.now += HANDSHAKE_TIMEOUT + 30
    scene.dialogue.say(events.Wakeup(limit))
    again = scene.dialogue.expect(commands.RequestWakeup)
    assert again.delay == HANDSHAKE_TIMEOUT
    scene.dialogue.receive(attempt.connection, METHOD)
    scene.dialogue.expect(commands.SendData)
    clock.now += HANDSHAKE_TIMEOUT + 30
    scene.dialogue.say(events.Wakeup(again))
    scene.dialogue.closed(scene.dialogue.expect(commands.CloseConnection).connection)
    assert "no end of the handshake in 50 s" in scene.refusal(conn).detail
    assert reported[-1].failure
    assert reported[-1].failure.cause is Cause.UNDECIDED


def test_the_limit_of_a_handshake_that_is_over_changes_nothing() -> None:
    scene, conn = RootDialogue(), server()
    attempt = scene.dial(conn, by_socks())
    scene.dialogue.opened(attempt)
    scene.dialogue.expect(commands.SendData)
    limit = scene.take_limit()
    assert limit
    scene.dialogue.receive(attempt.connection, METHOD)
    scene.dialogue.expect(commands.SendData)
    scene.dialogue.receive(attempt.connection, BOUND)
    scene.dialogue.say(events.Wakeup(limit))
    scene.dialogue.expect_nothing()
    assert conn.connected


def test_a_direct_connection_needs_no_limit() -> None:
    scene = RootDialogue()
    scene.connect(server(), direct())
    assert scene.take_limit() is None


@pytest.mark.parametrize("at", [0, 1], ids=["before the method", "before the reply"])
def test_a_proxy_that_hangs_up_during_the_handshake_is_a_refusal(at: int) -> None:
    scene, conn = RootDialogue(), server()
    attempt = scene.dial(conn, by_socks())
    scene.dialogue.opened(attempt)
    if at:
        scene.dialogue.receive(attempt.connection, METHOD)
    scene.dialogue.closed(attempt.connection)
    assert scene.refusal(conn).reason is Reason.HANDSHAKE_FAILED
    assert scene.closed() == []


def test_a_stock_route_keeps_the_systems_own_error() -> None:
    scene, conn = RootDialogue(), server()
    attempt = scene.dial(conn, direct("origin.test", egress=Egress(None)))
    scene.dialogue.opened(attempt, "[Errno -2] Name or service not known")
    assert scene.outcomes(conn) == ["[Errno -2] Name or service not known"]
    assert not isinstance(scene.outcomes(conn)[0], RefusalText)


@pytest.mark.parametrize("route", [direct(), by_socks()], ids=["direct", "socks5"])
def test_each_direction_closes_by_itself(route: Route) -> None:
    scene, conn = RootDialogue(), server()
    hop = scene.connect(conn, route)
    scene.do(commands.CloseTcpConnection(conn, half_close=True))
    closing = scene.dialogue.expect(commands.CloseTcpConnection)
    assert (closing.connection, closing.half_close) == (hop, True)
    scene.dialogue.receive(hop, b"still talking")
    assert scene.received(conn) == b"still talking"


@pytest.mark.parametrize("route", [direct(), by_socks()], ids=["direct", "socks5"])
def test_a_peer_that_has_said_all_still_listens(route: Route) -> None:
    scene, conn = RootDialogue(), server()
    hop = scene.connect(conn, route)
    hop.state = connection.ConnectionState.CAN_WRITE
    scene.dialogue.say(events.ConnectionClosed(hop))
    assert scene.closed() == [conn]
    assert conn.state is connection.ConnectionState.CAN_WRITE
    assert scene.send(conn, b"last words").connection == hop
    scene.do(commands.CloseConnection(conn))
    assert scene.dialogue.expect(commands.CloseConnection).connection == hop


def test_two_servers_have_a_tunnel_each() -> None:
    scene = RootDialogue()
    one, two = server("one.test"), server("two.test")
    asked_one, asked_two = scene.ask(one), scene.ask(two)
    scene.answer(asked_two, direct("192.0.2.2"))
    hop_two = scene.dialogue.expect(commands.OpenConnection)
    scene.answer(asked_one, by_socks())
    hop_one = scene.dialogue.expect(commands.OpenConnection)
    scene.dialogue.opened(hop_two)
    assert (scene.outcomes(one), scene.outcomes(two)) == ([], [None])
    scene.dialogue.opened(hop_one).receive(hop_one.connection, METHOD)
    scene.dialogue.receive(hop_two.connection, b"for two")
    scene.dialogue.receive(hop_one.connection, BOUND + b"for one")
    assert (scene.received(one), scene.received(two)) == (b"for one", b"for two")
    scene.dialogue.got.clear()
    scene.dialogue.closed(hop_one.connection)
    assert scene.send(two, b"x").connection == hop_two.connection
    assert scene.closed() == [one]


def test_what_an_attempt_reports_after_its_end_does_not_touch_the_next_one() -> None:
    """Both attempts are for the same connection, whose state is theirs to write."""
    scene, conn = RootDialogue(), server()
    route = by_socks()
    pooled = replace(route, choice=replace(route.choice, pool="homes"))
    first = scene.dial(conn, pooled)
    scene.dialogue.opened(first)
    for answer in (METHOD, b"\x05\x01\x00\x01" + bytes(6)):
        scene.dialogue.expect(commands.SendData)
        scene.take_limit()
        scene.dialogue.receive(first.connection, answer)
    assert scene.dialogue.expect(commands.CloseConnection).connection is first.connection
    again = scene.dialogue.expect(EgressConnectHook)
    assert again.data.failed
    scene.answer(again, by_socks())
    second = scene.dialogue.expect(commands.OpenConnection)
    scene.dialogue.opened(second)
    for answer in (METHOD, BOUND):
        scene.dialogue.expect(commands.SendData)
        scene.take_limit()
        scene.dialogue.receive(second.connection, answer)
    assert scene.outcomes(conn) == [None]
    scene.dialogue.receive(first.connection, b"late")
    scene.dialogue.closed(first.connection)
    assert conn.connected
    assert scene.received(conn) == b""
    assert scene.closed() == []
    assert scene.send(conn, b"on").connection is second.connection


def test_a_server_that_is_opened_again_gets_a_new_route() -> None:
    scene, conn = RootDialogue(), server()
    first = scene.connect(conn, direct("192.0.2.1"))
    scene.dialogue.closed(first)
    assert not conn.connected
    attempt = scene.dial(conn, direct("192.0.2.2"))
    scene.dialogue.opened(attempt)
    assert attempt.connection.address == ("192.0.2.2", 443)
    assert scene.outcomes(conn) == [None, None]
    assert scene.send(conn, b"x").connection == attempt.connection


def test_a_refused_server_can_be_asked_for_again() -> None:
    scene, conn = RootDialogue(), server()
    scene.answer(scene.ask(conn), DENIED)
    attempt = scene.dial(conn, direct())
    scene.dialogue.opened(attempt)
    record = record_of(conn)
    assert record
    assert record.refusal is None
    assert conn.connected


def test_a_root_within_a_root_dials_once() -> None:
    scene = RootDialogue()
    ctx = scene.ctx.fork()
    ctx.server = conn = server()
    conn.via = via_for(Choice(Egress(SOCKS, "ipv4")), Egress(SOCKS, "ipv4"), forward=False)
    inmost = Inner(ctx)
    nested = make(ctx, send_connect=True)[0]
    assert isinstance(nested, EgressRoot)
    nested.child_layer = inmost
    scene.root.child_layer = nested
    scene.do(commands.OpenConnection(conn))
    hook = scene.dialogue.expect(EgressConnectHook)
    scene.answer(hook, by_socks())
    attempt = scene.dialogue.expect(commands.OpenConnection)
    scene.dialogue.opened(attempt).receive(attempt.connection, METHOD)
    scene.dialogue.receive(attempt.connection, BOUND + b"banner")
    (done,) = inmost.of(events.OpenConnectionCompleted)
    assert done.reply is None
    assert [event.data for event in inmost.of(events.DataReceived)] == [b"banner"]
    scene.dialogue.got.clear()
    assert scene.send(conn, b"ping").connection == attempt.connection
    scene.dialogue.closed(attempt.connection)
    assert [event.connection for event in inmost.of(events.ConnectionClosed)] == [conn]


def test_mitmproxy_still_finds_the_proxy_mode_as_the_first_layer() -> None:
    ctx = make_context()
    mode = Recorder(ctx)
    EgressRoot(ctx, mode)
    assert ctx.layers == [mode]
