"""The two questions the layers ask the policy, as hooks of mitmproxy's own kind.

Nobody answering is an answer: the layers refuse (fail-closed), whatever the cause.
"""

from dataclasses import dataclass

from mitmproxy import connection, http
from mitmproxy.proxy import commands

from ..model.decision import Refusal
from ..service import Choice, Route


@dataclass
class FlowRequest:
    """An HTTP flow needs a server connection: which egress does it take?

    ``taken`` is the key of the egress that the flow's open connection already leaves by.
    """

    flow: http.HTTPFlow
    taken: str | None = None
    answer: Choice | None = None


@dataclass
class EgressFlowHook(commands.StartHook):
    """Fires when an HTTP flow is about to be sent: after the last edit, before any connection."""

    data: FlowRequest


@dataclass
class ConnectRequest:
    """A server connection is about to be opened: by which route?"""

    client: connection.Client
    server: connection.Server
    answer: Route | Refusal | None = None


@dataclass
class EgressConnectHook(commands.StartHook):
    """Fires before a connection that no egress layer minted is opened. Handlers may be async."""

    data: ConnectRequest
