"""The questions that layers put to the policy, and what they report to it.

A question that nobody answers is a refusal (fail-closed), whatever the cause. All are asked
synchronously. The question about a connection may have to wait for DNS: if it is not answered at
once it is asked again, by a hook of mitmproxy's own kind.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy import connection, dns, http
from mitmproxy.proxy import commands

from ..model.decision import Choice, Outcome, Refusal, Route


@dataclass
class FlowRequest:
    """A flow is about to leave: which egress does it take?

    Asked after the last edit of the flow and before any connection is made for it, and once more
    when it has one, with the choice ``before``: that is the answer as long as the policy is the
    same. ``taken`` is the key of the egress that the flow's open connection already leaves by.
    """

    flow: http.HTTPFlow | dns.DNSFlow
    taken: str | None = None
    before: Choice | None = None
    answer: Choice | None = None


@dataclass
class ReviewRequest:
    """The policy has changed: may a flow that is on its way go on by the egress of this key?"""

    flow: http.HTTPFlow
    taken: str
    answer: bool = False


@dataclass
class ConnectRequest:
    """A server connection is about to be opened: by which route?"""

    client: connection.Client
    server: connection.Server
    answer: Route | Refusal | None = None


@dataclass(frozen=True)
class Report:
    """A dial on a route, or the handshake behind it, has ended."""

    route: Route
    outcome: Outcome


Question = FlowRequest | ReviewRequest | ConnectRequest | Report
Decide = Callable[[Question], None]
"""Puts the answer into the request, or leaves it open: that refuses a flow, and has the hook asked
about a connection. Its refusals are the hook's: mitmproxy cannot take one within its first event.
"""


def _nobody(_: Question) -> None:
    """Answers nothing."""


_decide: Decide = _nobody


def answer_with(decide: Decide = _nobody) -> None:
    """Have questions answered by ``decide``, by default by nobody."""
    global _decide
    _decide = decide


def ask(request: Question) -> None:
    """Ask about a flow or a connection, or report."""
    _decide(request)


@dataclass
class EgressConnectHook(commands.StartHook):
    """Fires before a connection that no egress layer minted is opened, unless it was answered at
    once. Handlers may be async."""

    data: ConnectRequest
