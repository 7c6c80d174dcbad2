"""The questions that layers put to the policy, and the outcomes that they report to it.

Without an answer the layers refuse (fail-closed), whatever the cause. Every question is asked
synchronously first. A question about a connection may have to wait for DNS: without an answer it
is asked again, through a hook of its own that may wait.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mitmproxy import connection, dns, http
from mitmproxy.proxy import commands

from ..model.decision import Choice, Refusal, Route
from ..policy.hop import HopFailure, Outcome


@dataclass
class FlowRequest:
    """A flow is about to leave: which egress does it take?

    Asked after the last edit of the flow and before any connection is made for it, and again once
    it has a connection, with the earlier choice as ``before``: it holds while the policy is the
    same. ``taken`` is the key of the egress by which the flow's open connection already leaves.
    ``held`` gives the keys of the egresses by which it could leave over other open connections.
    With ``failed`` the egress of ``before`` failed for that reason: is there another one?
    """

    flow: http.HTTPFlow | dns.DNSFlow
    taken: str | None = None
    held: Callable[[], Iterable[str]] = tuple
    before: Choice | None = None
    failed: Refusal | None = None
    answer: Choice | None = None


@dataclass
class ReviewRequest:
    """The policy has changed: may this flow go on by the egress with the key ``taken``?"""

    flow: http.HTTPFlow
    taken: str
    answer: bool = False


@dataclass
class ConnectRequest:
    """A server connection is about to be opened: which route does it take?

    With ``failed`` the egress of ``before`` failed for that reason: is there another one? The
    answer is that refusal if not.
    """

    client: connection.Client
    server: connection.Server
    before: Choice | None = None
    failed: Refusal | None = None
    answer: Route | Refusal | None = None


@dataclass(frozen=True)
class Report:
    """A dial on a route, or the whole attempt to open a tunnel, has ended.

    ``reused``: a connection broke that had carried requests before.
    """

    route: Route
    outcome: Outcome
    reused: bool = False


Question = FlowRequest | ReviewRequest | ConnectRequest | Report
Decide = Callable[[Question], None]
"""Puts the answer into the request, or leaves it open. An open question refuses a flow, and makes
the hook ask again about a connection. Only the hook refuses connections, because mitmproxy cannot
take a refusal within its first event."""


def _nobody(_: Question) -> None:
    """Answer nothing."""


_decide: Decide = _nobody


def answer_with(decide: Decide = _nobody) -> None:
    """Let ``decide`` answer questions; by default nothing answers them."""
    global _decide
    _decide = decide


def ask(request: Question) -> None:
    """Ask a question, whose answer is then in ``request.answer``, or report."""
    _decide(request)


def report_answer(route: Route, opened: Outcome | None, failure: HopFailure | None) -> None:
    """Report whether a forwarding proxy answered a request. ``opened`` is the outcome of its
    connection, for the first answer on it; later ones matter only if they fail."""
    if opened is None and failure is None:
        return
    now = time.monotonic()
    begun = opened or Outcome("attempt", route.pin.addresses[0], None, now, now)
    outcome = replace(begun, failure=failure, ended=now)
    ask(Report(route, outcome, reused=opened is None))


@dataclass
class EgressConnectHook(commands.StartHook):
    """Fires before an unminted connection is opened, unless ``ask`` was answered. Handlers may be
    async."""

    data: ConnectRequest
