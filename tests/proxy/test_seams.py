"""The contract with mitmproxy: the seams know everything that they replace and use."""

import inspect
from collections.abc import Sequence
from typing import Any, cast

import pytest
from mitmproxy import connection, http, optmanager, version
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import context, events, layer, tunnel
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpStream
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy
from mitmproxy.proxy.layers.tls import ServerTLSLayer
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import typecheck

from egress_policy.model.decision import Choice, Egress
from egress_policy.model.proxy import Proxy
from egress_policy.proxy import seams
from egress_policy.proxy.forward import ForwardRequests
from egress_policy.proxy.root import EgressRoot
from egress_policy.proxy.via import via_for
from tests.helpers.playbook import Recorder, make_context


def parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


# --- the check at start


def test_the_installed_mitmproxy_is_known() -> None:
    assert seams.check() is None
    assert seams.check(version.VERSION) is None


@pytest.mark.parametrize("running", ["12.2.0", "12.2.3", "12.9", "13.0.0.dev", "13.1.2"])
def test_supported_versions_pass(running: str) -> None:
    assert seams.check(running) is None


@pytest.mark.parametrize("running", ["11.1.3", "12.1.2", "12", "14.0.0", "14.0.0.dev", "2.0", "?"])
def test_an_unsupported_version_is_named_with_the_supported_ones(running: str) -> None:
    assert seams.check(running) == (
        f"mitmproxy {running} is not supported; use 12.2 or later, below 14"
    )


@pytest.mark.parametrize("index", range(len(seams._KNOWN)), ids=[one[0] for one in seams._KNOWN])
def test_a_signature_that_differs_is_named(monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    known = list(seams._KNOWN)
    name, _, expected = known[index]
    known[index] = (name, lambda self, something_new: None, expected)
    monkeypatch.setattr(seams, "_KNOWN", tuple(known))
    assert seams.check() == (f"mitmproxy {version.VERSION} is not supported: {name} has changed")


def test_a_class_whose_objects_cannot_be_copied_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slotted:
        __slots__ = ("address",)

    monkeypatch.setattr(seams, "_COPIED", (*seams._COPIED, Slotted))
    what = f"mitmproxy {version.VERSION} is not supported: Slotted has no __dict__"
    assert seams.check() == what


def test_the_check_still_holds_while_the_seams_are_installed() -> None:
    seams.install(lambda _: None)
    try:
        assert seams.check() is None
    finally:
        seams.restore()


# --- what the seams and the layers use without being asked to


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (HttpUpstreamProxy.__dict__["make"].__func__, ("cls", "ctx", "send_connect")),
        (HttpStream.__dict__["make_server_connection"], ("self",)),
        (HttpStream.handle_protocol_error, ("self", "event")),
        (HttpStream.send_response, ("self", "already_streamed")),
        (HttpStream.check_killed, ("self", "emit_error_hook")),
        (HttpStream.flow_done, ("self",)),
        (HttpStream.state_done, ("self", "_")),
        (GetHttpConnection, ("address", "tls", "via", "transport_protocol")),
        (optmanager.OptManager._parse_setval, ("self", "o", "values")),
        (optmanager._UnconvertedStrings, ("val",)),
        (typecheck.check_option_type, ("name", "value", "typeinfo")),
        (tunnel.TunnelLayer.__init__, ("self", "context", "tunnel_connection", "conn")),
        (tunnel.TunnelLayer._handshake_finished, ("self", "err")),
        (tunnel.TunnelLayer._handle_command, ("self", "command")),
        (tunnel.TunnelLayer.on_handshake_error, ("self", "err")),
        (tunnel.TunnelLayer.receive_handshake_data, ("self", "data")),
        (ServerTLSLayer, ("context", "conn")),
        (events.OpenConnectionCompleted, ("command", "reply")),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_used_functions_have_the_known_signatures(function: Any, expected: tuple[str, ...]) -> None:
    assert parameters(function) == expected


def test_used_attributes_exist() -> None:
    ctx = make_context()
    assert {"stream_id", "client_state", "context"} <= vars(HttpStream(ctx, 1)).keys()
    assert "flow" in HttpStream.__annotations__
    server = connection.Server(address=None)
    assert {"tunnel_state", "command_to_reply_to"} <= vars(tunnel.TunnelLayer).keys()
    assert "child_layer" in vars(tunnel.TunnelLayer(ctx, server, server))
    assert {"deferred", "_options"} <= vars(optmanager.OptManager()).keys()
    data = http.Request.make("GET", "http://origin.test/").data
    assert {"host", "port", "authority", "headers", "path"} <= vars(data).keys()
    assert Proxyserver().connections == {}
    assert {"client", "layer", "transports"} <= ConnectionHandler.__annotations__.keys()


# --- install and restore


def functions() -> list[Any]:
    return [HttpUpstreamProxy.__dict__["make"], HttpStream.__dict__["make_server_connection"]]


def test_install_and_restore_nest() -> None:
    own = functions()
    seams.install(lambda _: None)
    ours = functions()
    assert not any(one is other for one, other in zip(ours, own, strict=True))
    seams.install(lambda _: None)
    assert functions() == ours
    seams.restore()
    assert functions() == ours
    seams.restore()
    assert functions() == own
    seams.restore()  # one too many
    assert functions() == own
    seams.install(lambda _: None)
    assert functions()[1] is ours[1]
    seams.restore()
    assert functions() == own


# --- what stands behind a via

FORWARDING = Egress(Proxy(name="exit", host="proxy.test"), "auto")


@pytest.mark.parametrize(
    ("egress", "forward", "expected"),
    [
        (FORWARDING, True, [EgressRoot, ForwardRequests]),
        (FORWARDING, False, [EgressRoot]),
        (Egress(None, "ipv6"), False, [EgressRoot]),
        (None, True, [EgressRoot]),
    ],
    ids=["forwarded", "tunnelled", "direct", "a via that somebody stored"],
)
@pytest.mark.parametrize("send_connect", [False, True])
def test_a_root_is_put_behind_a_via(
    egress: Egress | None, forward: bool, expected: Sequence[type], send_connect: bool
) -> None:
    ctx = make_context()
    via = via_for(Choice(egress), egress or FORWARDING, forward)
    if egress is None:
        via = ("http", (str.__str__(via[1][0]), 8080))
    ctx.server = connection.Server(address=("origin.test", 80), via=via)
    stack = seams.make(ctx, send_connect)
    assert [type(one) for one in stack._stack] == expected


class Handler:
    """What ``wrap`` needs of a client's handler."""

    def __init__(self, ctx: context.Context) -> None:
        self.client = ctx.client
        self.layer: layer.Layer = Recorder(ctx)


def test_no_second_root_is_put_behind_a_via_of_the_policy() -> None:
    ctx, replayed = make_context(), make_context()
    handler = Handler(ctx)
    seams.wrap(cast(ConnectionHandler, handler))
    assert isinstance(handler.layer, EgressRoot)
    replayed.client = ctx.client.copy()  # equal, and has no root
    for forward, expected in ((False, list[type]()), (True, [ForwardRequests])):
        via = via_for(Choice(FORWARDING), FORWARDING, forward)
        for where, first in ((ctx, list[type]()), (replayed, [EgressRoot])):
            where.server = connection.Server(address=("origin.test", 80), via=via)
            stack = seams.make(where, send_connect=False)
            assert [type(one) for one in stack._stack] == [*first, *expected]


# --- values that mitmproxy would choke on without a word


class Options(optmanager.OptManager):
    """Two options that scripts declare after the command line was read."""

    def __init__(self, **deferred: Any) -> None:
        super().__init__()
        self.deferred.update(deferred)
        self.add_option("number", int, 1, "")
        self.add_option("text", str, "", "")
        self.add_option("switch", bool, True, "")
        self.add_option("texts", Sequence[str], [], "")


def unconverted(*texts: str) -> Any:
    return optmanager._UnconvertedStrings(list(texts))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("number", unconverted("abc"), "not an integer"),
        ("number", unconverted(), "required"),
        ("number", "abc", "int"),
        ("text", unconverted("one", "two"), "multiple values"),
        ("text", ["one"], "str"),
        ("switch", unconverted("maybe"), "boolean"),
        ("switch", "no", "bool"),
        ("texts", "one", "sequence"),
    ],
    ids=str,
)
def test_a_deferred_value_that_does_not_fit_is_taken_out(
    name: str, value: Any, message: str
) -> None:
    options = Options(**{name: value}, unknown=1)
    found = seams.drop_bad_deferred(options, {"number", "text", "switch", "texts"})
    assert list(found) == [name]
    assert message in found[name].lower()  # the capitals differ between versions
    assert options.deferred == {"unknown": 1}
    options.process_deferred()


def test_deferred_values_that_fit_stay() -> None:
    stated = {
        "number": unconverted("7"),
        "text": "x",
        "switch": False,
        "texts": unconverted("a", "b"),
    }
    options = Options(**stated)
    assert seams.drop_bad_deferred(options, stated.keys()) == {}
    options.process_deferred()
    assert [getattr(options, name) for name in stated] == [7, "x", False, ["a", "b"]]
