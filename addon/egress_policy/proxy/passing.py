"""A layer that hands each event on at once, and so keeps no queue of events that wait for it."""

import contextlib

from mitmproxy.proxy import context, layer


class PassingLayer(layer.Layer):
    """Base of layers with a ``handle_event`` of their own, which never pauses.

    mitmproxy gives each layer a queue for events that come while it is paused. An empty one takes
    as much memory as the rest of such a layer, on each connection that a client holds open.
    """

    def __init__(self, ctx: context.Context) -> None:
        super().__init__(ctx)
        with contextlib.suppress(AttributeError):  # a mitmproxy that has no such queue
            del self._paused_event_queue
