"""Handshakes with proxies: any split of the answer, bytes after it, and every way to fail."""

import base64
import itertools
from typing import Any

import pytest
from mitmproxy import connection
from mitmproxy.proxy import commands, events, layer, tunnel
from mitmproxy.proxy.layers.http._upstream_proxy import HttpConnectUpstreamHook

from egress_policy.errors import Reason
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import Cause
from egress_policy.proxy.dialer import Dialer
from egress_policy.proxy.refusal import RefusalText
from egress_policy.proxy.tunnel import (
    BareTunnel,
    ConnectTunnel,
    IssueCommand,
    ProxyTls,
    Socks5Tunnel,
    TunnelExit,
    build,
    unfinished,
)
from tests.helpers.playbook import Dialogue, Do, Recorder, make_context

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n"
BOUND = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"
CREDENTIALS = {"username": "alice", "password": "s3cret"}


def route(kind: str, target: tuple[str, int] = ("origin.test", 443), **fields: Any) -> Route:
    proxy = Proxy(**{"name": "exit", "type": kind, "host": "proxy.example.com", **fields})
    return Route(Choice(Egress(proxy, proxy.family), rule="#1"), Pin(("192.0.2.1",), 4), target)


class TunnelDialogue:
    """A tunnel between a recorder and an open connection to the proxy, which has been asked to
    open."""

    def __init__(self, path: Route) -> None:
        ctx = make_context()
        self.hop = connection.Server(address=("proxy.example.com", 1080))
        self.conn = connection.Server(address=path.target)
        kind = Socks5Tunnel if path.proxy.type == "socks5" else ConnectTunnel
        self.subject = kind(ctx, self.hop, self.conn, path)
        self.subject.child_layer = self.inner = Recorder(ctx)
        self.dialogue = Dialogue(self.subject).start()
        self.dialogue.say(Do(commands.OpenConnection(self.conn)))
        self.dialogue.opened(self.dialogue.expect(commands.OpenConnection))

    def sent(self) -> bytes:
        """The bytes to the proxy since the last call."""
        data = b""
        while self.dialogue.got:
            command = self.dialogue.expect(commands.SendData)
            assert command.connection == self.hop
            data += command.data
        return data

    def receive(self, data: bytes, *, trickle: bool = False) -> None:
        for piece in [bytes((byte,)) for byte in data] if trickle else [data]:
            self.dialogue.receive(self.hop, piece)

    def failure(self) -> RefusalText:
        """The failure: the hop was closed and the child got the reason."""
        closed = self.dialogue.expect(commands.CloseConnection)
        assert closed.connection == self.hop
        assert not self.conn.connected
        (event,) = self.inner.of(events.OpenConnectionCompleted)
        assert isinstance(event.reply, RefusalText)
        return event.reply

    def story(self) -> list[str | bytes | None]:
        """The child's events, in order: how opening ended, and data."""
        told: list[str | bytes | None] = []
        for event in self.inner.seen:
            if isinstance(event, events.OpenConnectionCompleted):
                told.append(event.reply)
            elif isinstance(event, events.DataReceived):
                assert event.connection == self.conn
                told.append(event.data)
        return told


def connecting(**fields: Any) -> TunnelDialogue:
    """An HTTP CONNECT whose hook is still unanswered."""
    target = fields.pop("target", ("origin.test", 443))
    return TunnelDialogue(route("http", target, **fields))


def connect_request(scene: TunnelDialogue) -> tuple[str, dict[str, str]]:
    """The request line and headers that were sent."""
    head = scene.sent().decode()
    assert head.endswith("\r\n\r\n")
    line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
    return line, {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}


def asked(scene: TunnelDialogue) -> HttpConnectUpstreamHook:
    return scene.dialogue.expect(HttpConnectUpstreamHook)


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (("origin.test", 443), "origin.test:443"),
        (("192.0.2.7", 8443), "192.0.2.7:8443"),
        (("2001:db8::1", 443), "[2001:db8::1]:443"),
    ],
)
def test_connect_asks_for_the_target(target: tuple[str, int], authority: str) -> None:
    scene = connecting(target=target)
    hook = asked(scene)
    assert hook.flow.request.authority == authority
    scene.dialogue.hook_done(hook)
    line, headers = connect_request(scene)
    assert line == f"CONNECT {authority} HTTP/1.1"
    assert headers == {"host": authority}


def test_connect_sends_its_credentials_and_shows_them_to_nobody() -> None:
    scene = connecting(**CREDENTIALS)
    hook = asked(scene)
    assert len(hook.flow.request.headers) == 0
    # Another addon may add headers; one for credentials would be meant for another hop.
    hook.flow.request.headers["X-Session"] = "7"
    hook.flow.request.headers["Proxy-Authorization"] = "Basic b3RoZXI="
    hook.flow.request.headers["Host"] = "elsewhere.test"
    scene.dialogue.hook_done(hook)
    _, headers = connect_request(scene)
    assert base64.b64decode(headers["proxy-authorization"].removeprefix("Basic ")) == (
        b"alice:s3cret"
    )
    assert (headers["x-session"], headers["host"]) == ("7", "origin.test:443")
    assert "s3cret" not in str(hook.flow.get_state())


@pytest.mark.parametrize("trickle", [False, True])
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"])
def test_connect_hands_on_what_comes_behind_the_answer(interim: bytes, trickle: bool) -> None:
    scene = connecting()
    scene.dialogue.hook_done(asked(scene))
    scene.sent()
    scene.receive(interim + ESTABLISHED, trickle=trickle)
    assert scene.story() == [None]
    assert scene.conn.connected
    scene.receive(b"hello")
    assert scene.story() == [None, b"hello"]


def test_connect_opens_before_it_hands_on_bytes_of_the_same_segment() -> None:
    scene = connecting()
    scene.dialogue.hook_done(asked(scene))
    scene.sent()
    scene.receive(ESTABLISHED + b"banner")
    assert scene.story() == [None, b"banner"]


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (b"HTTP/1.1 407 Who are you\r\n\r\n", Reason.PROXY_AUTH, "407 Who are you"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Reason.HANDSHAKE_FAILED, "502 Bad Gateway"),
        (b"HTTP/1.1 302 Found\r\n\r\n", Reason.HANDSHAKE_FAILED, "302 Found"),
        (b"SSH-2.0-OpenSSH_9\r\n", Reason.HANDSHAKE_FAILED, "did not answer CONNECT with HTTP/1"),
        (b"HTTP/1.1 2000 ?\r\n", Reason.HANDSHAKE_FAILED, "status line"),
    ],
)
@pytest.mark.parametrize("trickle", [False, True])
def test_connect_that_is_declined_is_a_refusal(
    answer: bytes, reason: Reason, words: str, trickle: bool
) -> None:
    scene = connecting(**CREDENTIALS)
    scene.dialogue.hook_done(asked(scene))
    scene.sent()
    # Behind the close nothing more arrives, so the trickle ends where the answer is understood.
    for piece in [bytes((byte,)) for byte in answer] if trickle else [answer]:
        if not scene.dialogue.got:
            scene.receive(piece)
    text = scene.failure()
    assert text.refusal.reason is reason
    assert words in text
    assert "s3cret" not in text
    assert (text.refusal.proxy, text.refusal.host) == ("exit", "proxy.example.com")
    assert text.refusal.rule == "#1"


def test_connect_to_a_target_that_no_request_can_name_is_a_refusal() -> None:
    scene = connecting(target=("bad name\r\nX: y", 443))
    scene.dialogue.hook_done(asked(scene))
    assert scene.failure().refusal.reason is Reason.HANDSHAKE_FAILED
    scene.dialogue.expect_nothing()


def test_a_proxy_that_closes_in_the_middle_of_its_answer_ends_the_opening() -> None:
    scene = connecting()
    scene.dialogue.hook_done(asked(scene))
    scene.sent()
    scene.receive(ESTABLISHED[:20])
    scene.dialogue.closed(scene.hop)
    assert scene.failure().refusal.reason is Reason.HANDSHAKE_FAILED
    assert not scene.conn.connected


def socks(**fields: Any) -> TunnelDialogue:
    target = fields.pop("target", ("origin.test", 443))
    return TunnelDialogue(route("socks5", target, **fields))


@pytest.mark.parametrize(
    ("target", "address"),
    [
        (("origin.test", 443), b"\x03\x0borigin.test\x01\xbb"),
        (("192.0.2.7", 80), b"\x01\xc0\x00\x02\x07\x00\x50"),
        (("2001:db8::1", 80), b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x00\x50"),
    ],
)
def test_socks5_asks_for_the_target(target: tuple[str, int], address: bytes) -> None:
    scene = socks(target=target)
    assert scene.sent() == b"\x05\x01\x00"
    scene.receive(b"\x05\x00")
    assert scene.sent() == b"\x05\x01\x00" + address


@pytest.mark.parametrize("trickle", [False, True])
def test_socks5_signs_in_and_opens(trickle: bool) -> None:
    scene = socks(**CREDENTIALS)
    assert scene.sent() == b"\x05\x01\x02"
    scene.receive(b"\x05\x02", trickle=trickle)
    assert scene.sent() == b"\x01\x05alice\x06s3cret"
    scene.receive(b"\x01\x00", trickle=trickle)
    assert scene.sent().startswith(b"\x05\x01\x00\x03")
    assert scene.story() == []
    scene.receive(BOUND, trickle=trickle)
    assert scene.story() == [None]
    assert scene.conn.connected


@pytest.mark.parametrize("bound", [BOUND, b"\x05\x00\x00\x03\x03abc\x00\x01"])
def test_socks5_opens_before_it_hands_on_what_comes_behind_the_reply(bound: bytes) -> None:
    scene = socks()
    scene.receive(b"\x05\x00" + bound + b"banner")
    assert scene.story() == [None, b"banner"]
    scene.receive(b"more")
    assert scene.story() == [None, b"banner", b"more"]


@pytest.mark.parametrize(
    ("pieces", "reason", "words"),
    [
        ([b"\x05\xff"], Reason.PROXY_AUTH, ""),
        ([b"\x05\x02", b"\x01\x01"], Reason.PROXY_AUTH, ""),
        ([b"\x05\x02", b"\x01\x00", b"\x05\x05\x00\x01"], Reason.HANDSHAKE_FAILED, "refused"),
        ([b"\x05\x02", b"\x01\x00", b"\x05\x77\x00\x01"], Reason.HANDSHAKE_FAILED, ""),
        ([b"HTTP/1.1 400"], Reason.HANDSHAKE_FAILED, ""),
        ([b"\x04\x5a"], Reason.HANDSHAKE_FAILED, ""),
    ],
    ids=["no method", "bad password", "refused", "unknown code", "http", "socks4"],
)
def test_socks5_that_is_declined_is_a_refusal(
    pieces: list[bytes], reason: Reason, words: str
) -> None:
    scene = socks(**CREDENTIALS)
    for piece in pieces:
        scene.sent()
        scene.receive(piece)
    text = scene.failure()
    assert text.refusal.reason is reason
    assert words in text
    assert "s3cret" not in text


def test_socks5_to_a_name_that_it_cannot_carry_is_a_refusal() -> None:
    scene = socks(target=("a" * 256, 443))
    assert scene.failure().refusal.reason is Reason.HANDSHAKE_FAILED
    scene.dialogue.expect_nothing()


@pytest.mark.parametrize("scene", [connecting, socks])
def test_an_open_tunnel_carries_data_and_half_closes(scene: Any) -> None:
    made: TunnelDialogue = scene()
    if scene is connecting:
        made.dialogue.hook_done(asked(made))
    made.receive(ESTABLISHED if scene is connecting else b"\x05\x00" + BOUND)
    made.sent()
    made.dialogue.say(Do(commands.SendData(made.conn, b"ping")))
    assert made.sent() == b"ping"
    made.dialogue.say(Do(commands.CloseTcpConnection(made.conn, half_close=True)))
    closed = made.dialogue.expect(commands.CloseTcpConnection)
    assert (closed.connection, closed.half_close) == (made.hop, True)
    made.receive(b"pong")
    assert made.story() == [None, b"pong"]
    made.dialogue.closed(made.hop)
    assert [event.connection for event in made.inner.of(events.ConnectionClosed)] == [made.conn]


@pytest.mark.parametrize(
    ("kind", "forward", "expected"),
    [
        (None, False, [Dialer]),
        ("http", False, [Dialer, ConnectTunnel]),
        ("http", True, [Dialer, tunnel.TunnelLayer]),
        ("https", False, [Dialer, ProxyTls, ConnectTunnel]),
        ("https", True, [Dialer, ProxyTls, tunnel.TunnelLayer]),
        ("socks5", False, [Dialer, Socks5Tunnel]),
    ],
)
def test_the_stack_has_what_the_route_needs(
    kind: str | None, forward: bool, expected: list[type[layer.Layer]]
) -> None:
    ctx = make_context()
    target = ("origin.test", 80)
    direct = Route(Choice(Egress(None, "ipv4")), Pin(("192.0.2.1",), 4), target)
    outer, port = build(
        ctx, connection.Server(address=target), route(kind) if kind else direct, forward
    )
    stack: list[Any] = [outer]
    while stack[-1] is not port:
        stack.append(stack[-1].child_layer)
    assert [type(one) for one in stack] == [*expected, TunnelExit]


class Closing:
    """An open tunnel whose bytes are those of its hop, with its layers or without them: direct, or
    to a proxy that forwards."""

    def __init__(self, *, bare: bool, forward: bool) -> None:
        direct = Route(Choice(Egress(None, "ipv4")), Pin(("192.0.2.1",), 4), ("192.0.2.1", 80))
        path = route("http") if forward else direct
        self.conn = connection.Server(address=path.target)
        self.outer, self.port = build(make_context(), self.conn, path, forward)
        self.say(events.Start())
        (opening,) = self.say(IssueCommand(commands.OpenConnection(self.conn)))
        assert isinstance(opening, commands.OpenConnection)
        self.hop = opening.connection
        self.hop.state = connection.ConnectionState.OPEN
        self.hop.peername = self.hop.sockname = self.hop.address
        self.say(events.OpenConnectionCompleted(opening, None))
        self.port.outbox.clear()
        self.subject = BareTunnel(self.conn, self.hop) if bare else self.outer
        self.outbox = (
            self.subject.outbox if isinstance(self.subject, BareTunnel) else self.port.outbox
        )

    def say(self, event: events.Event) -> list[commands.Command]:
        return list(getattr(self, "subject", self.outer).handle_event(event))

    def take(self, step: str) -> tuple[object, ...]:
        """All that can be seen of a step."""
        if step.startswith("peer"):
            half = step == "peer half-closes"
            self.hop.state = connection.ConnectionState["CAN_WRITE" if half else "CLOSED"]
            issued = self.say(events.ConnectionClosed(self.hop))
        else:
            half = step == "client half-closes"
            issued = self.say(IssueCommand(commands.CloseTcpConnection(self.conn, half)))
        assert all(isinstance(one, commands.CloseTcpConnection) for one in issued)
        told = [(type(event), vars(event)["connection"] is self.conn) for event in self.outbox]
        done = [(vars(one)["connection"] is self.hop, vars(one)["half_close"]) for one in issued]
        return told, done, self.conn.state, self.conn.timestamp_end is None


@pytest.mark.parametrize("peer", ["peer closes", "peer half-closes"])
@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("forward", [True, False])
def test_without_its_layers_an_open_tunnel_closes_as_with_them(
    peer: str, order: tuple[int, ...], forward: bool
) -> None:
    steps = [("client half-closes", "client closes", peer)[number] for number in order]
    layers, bare = Closing(bare=False, forward=forward), Closing(bare=True, forward=forward)
    assert [bare.take(step) for step in steps] == [layers.take(step) for step in steps]


def test_an_https_proxy_is_checked_by_its_name_though_an_address_is_dialled() -> None:
    outer, _ = build(make_context(), connection.Server(address=None), route("https"), False)
    secured = outer.child_layer  # type: ignore[attr-defined]
    assert secured.tunnel_connection.sni == "proxy.example.com"
    assert b"h2" not in secured.tunnel_connection.alpn_offers


# --- handshakes without an end


BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n"


def test_a_proxy_that_hangs_up_in_the_head_of_its_answer_has_given_it() -> None:
    scene = connecting()
    scene.dialogue.hook_done(asked(scene))
    scene.sent()
    scene.receive(BUSY)
    scene.dialogue.closed(scene.hop)
    assert "the proxy answered CONNECT with 503 Busy" in scene.failure()


@pytest.mark.parametrize(
    ("answer", "cause", "seconds"),
    [(b"", Cause.UNDECIDED, None), (BUSY, Cause.LIMITED, 7.0), (BUSY[:20], Cause.UNDECIDED, None)],
    ids=["silence", "half of a head", "a status"],
)
def test_silence_after_connect_may_be_the_targets(
    answer: bytes, cause: Cause, seconds: float | None
) -> None:
    scene = connecting()
    scene.dialogue.hook_done(asked(scene))
    scene.sent()
    scene.receive(answer)
    failure = unfinished(scene.subject, 10.0)
    assert (failure.cause, failure.retry_after) == (cause, seconds)


def test_silence_in_socks_is_the_proxys_until_it_knows_the_target() -> None:
    scene = TunnelDialogue(route("socks5"))
    assert unfinished(scene.subject, 10.0).cause is Cause.SILENT
    scene.receive(b"\x05\x00")
    assert unfinished(scene.subject, 10.0).cause is Cause.UNDECIDED


def test_silence_before_the_handshake_has_begun_is_the_proxys() -> None:
    outer, _ = build(
        make_context(), connection.Server(address=("a.test", 1)), route("https"), False
    )
    assert unfinished(outer, 10.0).cause is Cause.SILENT
