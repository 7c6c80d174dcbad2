"""A passing layer keeps no queue, and a mitmproxy that gives it none does not matter."""

import pytest
from mitmproxy.proxy import events, layer

from egress_policy.proxy.passing import PassingLayer
from tests.helpers.playbook import make_context


class Passes(PassingLayer):
    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.seen = event
        yield from ()

    _handle_event = handle_event


@pytest.mark.parametrize("given", [True, False])
def test_a_passing_layer_keeps_no_queue(monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    if not given:
        monkeypatch.setattr(layer.Layer, "__init__", lambda *_: None)
    passes = Passes(make_context())
    assert not hasattr(passes, "_paused_event_queue")
    event = events.Start()
    assert not [*passes.handle_event(event)]
    assert passes.seen is event
