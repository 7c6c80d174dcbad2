"""The dialler: in order, in the pinned family, and never to a peer that was not pinned."""

import asyncio
import errno
import os
import time
from dataclasses import replace

import pytest
from mitmproxy import connection
from mitmproxy.proxy import commands, events

from egress_policy.client.own_machine import is_own_host
from egress_policy.errors import Reason
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.family import ProxyFamily
from egress_policy.model.proxy import Proxy
from egress_policy.policy.hop import AT_ONCE, CONNECT_TIMEOUT, STAGGER
from egress_policy.policy.listeners import Listeners
from egress_policy.proxy.dialer import GONE, Dialer, MintedServer, place_for
from egress_policy.proxy.refusal import RefusalText
from tests.helpers.playbook import Dialogue, Do, Recorder, make_context

PROXY = Proxy(name="exit", host="proxy.example.com", port=3128, family="ipv4")


def route(*addresses: str, family: int | None = 4, proxy: Proxy | None = PROXY) -> Route:
    pin = Pin(addresses, 6 if family == 6 else 4 if family == 4 else None)
    directive: ProxyFamily = "ipv6" if family == 6 else "ipv4" if family == 4 else "auto"
    return Route(Choice(Egress(proxy, directive)), pin, ("origin.test", 443))


class DialerDialogue:
    """A dialler over a recorder, which has been asked to open its connection."""

    def __init__(self, path: Route) -> None:
        self.ctx = ctx = make_context()
        self.conn = connection.Server(address=("proxy.example.com", 3128))
        self.now = 1000.0
        self.path = path
        self.wakeup: commands.RequestWakeup | None = None
        dialer = Dialer(ctx, self.conn, path, clock=lambda: self.now)
        dialer.child_layer = self.inner = Recorder(ctx)
        self.dialogue = Dialogue(dialer).start()
        self.dialogue.say(Do(commands.OpenConnection(self.conn)))

    def attempt(self) -> commands.OpenConnection:
        """The next attempt, and ``wakeup`` for the attempt after it, if there is one."""
        command = self.dialogue.expect(commands.OpenConnection)
        assert isinstance(command.connection, MintedServer)
        self.wakeup = None
        if self.dialogue.got:
            self.wakeup = self.dialogue.expect(commands.RequestWakeup)
            assert self.wakeup.delay == STAGGER
        return command

    def wake(self, wakeup: commands.RequestWakeup | None) -> None:
        assert wakeup
        self.dialogue.say(events.Wakeup(wakeup))

    def outcome(self) -> str | None:
        (event,) = self.inner.of(events.OpenConnectionCompleted)
        return event.reply  # type: ignore[no-any-return]

    def refusal(self) -> Reason:
        text = self.outcome()
        assert isinstance(text, RefusalText)
        return text.refusal.reason


def test_dials_the_next_address_when_one_refuses() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    first = scene.attempt()
    assert first.connection.address == ("192.0.2.1", 3128)
    scene.dialogue.opened(first, "[Errno 111] Connect call failed")
    second = scene.attempt()
    assert second.connection.address == ("192.0.2.2", 3128)
    scene.dialogue.opened(second)
    assert scene.outcome() is None
    assert scene.conn.connected
    assert scene.conn.peername == ("192.0.2.2", 3128)
    scene.dialogue.expect_nothing()


def hop_of(attempt: commands.OpenConnection) -> MintedServer:
    assert isinstance(attempt.connection, MintedServer)
    return attempt.connection


def test_the_next_address_begins_while_the_one_before_has_not_answered() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    first = scene.attempt()
    scene.wake(scene.wakeup)
    second, third = scene.attempt(), scene.wakeup
    assert [hop_of(one).address for one in (first, second)] == [
        ("192.0.2.1", 3128),
        ("192.0.2.2", 3128),
    ]
    scene.dialogue.opened(second)
    assert scene.outcome() is None
    assert scene.conn.peername == ("192.0.2.2", 3128)
    assert (hop_of(first).given_up, hop_of(second).given_up) == (True, False)
    scene.wake(third)  # it comes all the same
    scene.dialogue.expect_nothing()


@pytest.mark.parametrize("error", [None, "connection cancelled"])
def test_an_address_that_answers_when_another_has_is_not_used(error: str | None) -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    first = scene.attempt()
    scene.wake(scene.wakeup)
    scene.dialogue.opened(scene.attempt())
    scene.dialogue.opened(first, error)
    if error is None:
        assert scene.dialogue.expect(commands.CloseConnection).connection is first.connection
    scene.dialogue.expect_nothing()
    assert scene.conn.peername == ("192.0.2.2", 3128)


def test_fails_when_the_last_of_all_attempts_has() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    first = scene.attempt()
    scene.wake(scene.wakeup)
    scene.dialogue.opened(scene.attempt(), "[Errno 111] Connect call failed")
    assert scene.inner.of(events.OpenConnectionCompleted) == []
    hop_of(first).timed_out = True
    scene.dialogue.opened(first, "connection cancelled")
    assert scene.refusal() is Reason.CONNECT_TIMEOUT


def test_so_many_are_under_way_together_and_the_next_begins_when_one_has_ended() -> None:
    addresses = [f"192.0.2.{number}" for number in range(1, 61)]
    scene = DialerDialogue(route(*addresses))
    under_way = [scene.attempt()]
    for _ in range(AT_ONCE - 1):
        scene.wake(scene.wakeup)
        under_way.append(scene.attempt())
    assert scene.wakeup is None
    scene.dialogue.expect_nothing()
    for _ in range(60 - AT_ONCE):
        hop_of(ended := under_way.pop(0)).timed_out = True
        scene.dialogue.opened(ended, "egress: given up")
        under_way.append(scene.attempt())
        scene.dialogue.expect_nothing()
    dialled = place_for(scene.path, 59)
    assert hop_of(under_way[-1]).address == dialled
    scene.dialogue.opened(under_way[-1])
    assert scene.outcome() is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_without_a_descriptor_no_further_address_is_tried(number: int) -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    scene.dialogue.opened(scene.attempt(), str(OSError(number, os.strerror(number))))
    scene.dialogue.expect_nothing()
    assert scene.refusal() is Reason.ERROR
    assert "ulimit -n" in (scene.outcome() or "")


def test_without_a_descriptor_what_is_under_way_may_still_answer() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    first = scene.attempt()
    scene.wake(scene.wakeup)
    scene.dialogue.opened(scene.attempt(), "[Errno 24] Too many open files")
    scene.dialogue.expect_nothing()
    scene.dialogue.opened(first)
    assert scene.outcome() is None


def test_what_cannot_be_used_ends_the_other_attempts() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    first = scene.attempt()
    scene.wake(scene.wakeup)
    scene.dialogue.opened(scene.attempt(), peer="192.0.2.66")
    scene.dialogue.expect(commands.CloseConnection)
    scene.dialogue.expect_nothing()
    assert hop_of(first).given_up
    assert scene.refusal() is Reason.PEER_MISMATCH


async def test_giving_an_attempt_up_ends_it() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    first = scene.attempt()
    task = asyncio.create_task(asyncio.Event().wait())
    hop_of(first).end_with(task)  # type: ignore[arg-type]
    scene.wake(scene.wakeup)
    scene.dialogue.opened(scene.attempt())
    await asyncio.wait([task])
    assert task.cancelled()


def test_a_jump_of_the_clock_does_not_change_when_an_attempt_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hop = hop_of(DialerDialogue(route("192.0.2.1")).attempt())
    monkeypatch.setattr(time, "monotonic", lambda: 7.0)
    hop.timestamp_start = 1_000_000.0
    assert hop.begun == 7.0


def test_refuses_when_no_address_answers() -> None:
    scene = DialerDialogue(route("192.0.2.1"))
    scene.dialogue.opened(scene.attempt(), "[Errno 111] Connect call failed")
    assert scene.refusal() is Reason.CONNECT_REFUSED
    assert not scene.conn.connected


def test_says_timeout_when_the_attempt_was_ended_by_the_clock() -> None:
    scene = DialerDialogue(route("192.0.2.1"))
    attempt = scene.attempt()
    assert isinstance(attempt.connection, MintedServer)
    attempt.connection.timed_out = True
    scene.dialogue.opened(attempt, "connection cancelled")
    assert scene.refusal() is Reason.CONNECT_TIMEOUT


@pytest.mark.parametrize("error", ["connection cancelled", None], ids=["still opening", "open"])
def test_tries_no_further_address_when_the_policy_changed_meanwhile(error: str | None) -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    attempt = scene.attempt()
    assert isinstance(attempt.connection, MintedServer)
    attempt.connection.cut = True
    scene.dialogue.opened(attempt, error)
    if error is None:
        scene.dialogue.expect(commands.CloseConnection)
    scene.dialogue.expect_nothing()
    assert scene.refusal() is Reason.DELETED


def test_stops_when_all_addresses_together_took_too_long() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    attempt = scene.attempt()
    scene.now += CONNECT_TIMEOUT
    scene.dialogue.say(events.OpenConnectionCompleted(attempt, "[Errno 110] timed out"))
    scene.dialogue.expect_nothing()
    assert scene.refusal() is Reason.CONNECT_TIMEOUT


def test_does_not_use_a_peer_of_the_other_family() -> None:
    scene = DialerDialogue(route("2001:db8::1", family=6))
    scene.dialogue.opened(scene.attempt(), peer="::ffff:203.0.113.7")
    closed = scene.dialogue.expect(commands.CloseConnection)
    assert isinstance(closed.connection, MintedServer)
    assert scene.refusal() is Reason.PEER_MISMATCH
    assert not scene.conn.connected


def test_does_not_use_another_peer_of_the_same_family() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    scene.dialogue.opened(scene.attempt(), peer="192.0.2.66")
    scene.dialogue.expect(commands.CloseConnection)
    scene.dialogue.expect_nothing()
    assert scene.refusal() is Reason.PEER_MISMATCH


@pytest.mark.parametrize("family", [None, 6])
@pytest.mark.parametrize("dialled", ["fe80::1%eth0", "fe80::1%2"])
def test_uses_a_link_local_peer_though_the_system_leaves_out_its_scope(
    dialled: str, family: int | None
) -> None:
    scene = DialerDialogue(route(dialled, family=family))
    scene.dialogue.opened(scene.attempt(), peer="fe80::1")
    assert scene.outcome() is None
    assert scene.conn.connected


def test_does_not_use_another_peer_of_a_proxy_that_is_not_pinned() -> None:
    scene = DialerDialogue(route("192.0.2.1", "2001:db8::1", family=None))
    scene.dialogue.opened(scene.attempt(), peer="192.0.2.66")
    scene.dialogue.expect(commands.CloseConnection)
    scene.dialogue.expect_nothing()
    assert scene.refusal() is Reason.PEER_MISMATCH


OWN = 8088
"""The port of a listener."""
LISTENERS = Listeners(is_own_host)
LISTENERS.of_proxy = lambda: [("127.0.0.1", OWN)]


def way_back(peer: str, port: int, proxy: Proxy | None) -> Route:
    """A route to a port, under a name that the system resolves, or to a proxy at that port."""
    if proxy is None:
        unpinned = route("home.test", family=None, proxy=None)
        return replace(unpinned, target=("home.test", port), loops=LISTENERS)
    at_port = proxy.model_copy(update={"port": port})
    return replace(route(peer, proxy=at_port), loops=LISTENERS)


ways_back = pytest.mark.parametrize("proxy", [None, PROXY], ids=["direct", "proxy"])


@ways_back
@pytest.mark.parametrize(
    ("peer", "local"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1"), ("192.0.2.7", "192.0.2.7")],
    ids=["loopback", "another loopback address", "our own address"],
)
def test_does_not_use_a_connection_that_loops_back(
    peer: str, local: str, proxy: Proxy | None
) -> None:
    scene = DialerDialogue(way_back(peer, OWN, proxy))
    scene.dialogue.opened(scene.attempt(), peer=peer, local=local)
    scene.dialogue.expect(commands.CloseConnection)
    scene.dialogue.expect_nothing()
    assert scene.refusal() is Reason.LOOP
    assert not scene.conn.connected


@ways_back
@pytest.mark.parametrize(
    ("peer", "local", "port"),
    [("127.0.0.1", "127.0.0.1", OWN + 1), ("192.0.2.7", "192.0.2.8", OWN)],
    ids=["another port of this machine", "another machine"],
)
def test_uses_a_connection_that_leads_to_somebody_else(
    peer: str, local: str, port: int, proxy: Proxy | None
) -> None:
    scene = DialerDialogue(way_back(peer, port, proxy))
    scene.dialogue.opened(scene.attempt(), peer=peer, local=local)
    scene.dialogue.expect_nothing()
    assert scene.outcome() is None
    assert scene.conn.connected


def test_ignores_what_a_given_up_attempt_still_reports() -> None:
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    first = scene.attempt()
    scene.dialogue.opened(first, "refused")
    scene.dialogue.opened(scene.attempt())
    scene.dialogue.closed(first.connection)
    assert scene.inner.of(events.ConnectionClosed) == []
    assert scene.conn.connected


def test_closes_a_connection_that_came_about_after_its_client_had_left() -> None:
    """A hook of another addon can keep the attempt from ending with the client."""
    scene = DialerDialogue(route("192.0.2.1", "192.0.2.2"))
    hop = scene.attempt()
    scene.ctx.client.state = connection.ConnectionState.CLOSED
    scene.dialogue.opened(hop)
    assert scene.dialogue.expect(commands.CloseConnection).connection is hop.connection
    scene.dialogue.expect_nothing()
    assert scene.outcome() == GONE


def test_keeps_the_systems_own_error_when_nothing_was_asked_of_the_connection() -> None:
    scene = DialerDialogue(route("origin.test", family=None, proxy=None))
    scene.dialogue.opened(scene.attempt(), "[Errno -2] Name or service not known")
    assert scene.outcome() == "[Errno -2] Name or service not known"
    assert not isinstance(scene.outcome(), RefusalText)


def test_carries_data_both_ways_and_reports_the_close() -> None:
    scene = DialerDialogue(route("192.0.2.1"))
    hop = scene.attempt()
    scene.dialogue.opened(hop)
    scene.dialogue.say(Do(commands.SendData(scene.conn, b"ping")))
    sent = scene.dialogue.expect(commands.SendData)
    assert (sent.connection, sent.data) == (hop.connection, b"ping")
    scene.dialogue.receive(hop.connection, b"pong")
    (received,) = scene.inner.of(events.DataReceived)
    assert (received.connection, received.data) == (scene.conn, b"pong")
    scene.dialogue.closed(hop.connection)
    (closed,) = scene.inner.of(events.ConnectionClosed)
    assert closed.connection == scene.conn


def test_targets_behind_one_hop_are_told_apart_by_their_hash_too() -> None:
    """mitmproxy keeps them in a table for each client, which equal hashes would turn into a
    list."""
    paths = [replace(route("192.0.2.1"), target=(f"origin{n}.test", 443)) for n in range(100)]
    places = [place_for(path, 0) for path in paths]
    assert len({hash(place) for place in places}) == 100
    assert all(place == ("192.0.2.1", 3128) for place in places)
    assert hash(places[0]) == hash(place_for(paths[0], 0))


def test_a_hop_adds_nothing_to_the_attributes_that_mitmproxy_keeps_of_a_connection() -> None:
    """Beyond thirty Python keeps them in a form that takes 1.4 KB more."""
    path = route("192.0.2.1")
    hop = MintedServer(path, place_for(path, 0), 1.0)
    hop.timestamp_start = hop.timestamp_end = 1.0
    assert vars(hop).keys() == vars(connection.Server(address=None)).keys()
