"""Filter expressions of rules: mitmproxy's own, evaluated in three values.

Some filters are decided before the request is known: the connection decides ``~src`` and ``~dst``,
and ``a & b`` is false as soon as one side is. Otherwise the result is ``None``.

``~dst`` looks at the target of the decision. The flow's own server connection may still belong to a
CONNECT whose request has been sent elsewhere, and has the host in the client's spelling.

``~user "alice"``, which must stand alone, is an addition: the user whom ``proxyauth`` let in.
"""

import copy
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from mitmproxy import connection, flow, flowfilter, http, tcp

from ..management.explain import ExplainQuery
from ..model.decision import Target
from ..model.target_url import parse_target_url
from ..model.user import parse_user_filter, user_in
from .record import without_record

_TELL_BY_CONNECTION = (flowfilter.FSrc, flowfilter.FDst, flowfilter.FAll)
_LOOK_AT_BODY = (flowfilter.FBod, flowfilter.FBodRequest)


class _User(flowfilter.FMeta):
    """Matches the flows of one user."""

    def __init__(self, expression: str, user: str) -> None:
        super().__init__(re.escape(expression))
        self.pattern = expression
        self.user = user

    def __call__(self, f: flow.Flow) -> bool:
        """Never raises, whatever the metadata holds."""
        return user_in(f.metadata) == self.user


class ConnectionView(tcp.TCPFlow):
    """A connection of which only the ends are known, not its content."""


@dataclass(frozen=True)
class FlowFilter:
    """A compiled filter expression.

    ``needs_request`` is false if the connection alone always decides.
    """

    expression: str
    root: flowfilter.TFilter
    needs_request: bool

    def __call__(self, target: Target) -> bool | None:
        f = target.flow
        return _evaluate(self.root, target, f) if isinstance(f, flow.Flow) else None


def compile_filter(expression: str) -> FlowFilter:
    """Compile a filter expression. Raises ValueError with what is wrong with it."""
    if not expression.strip():
        raise ValueError("empty filter expression")
    user = parse_user_filter(expression)
    root = flowfilter.parse(expression) if user is None else _User(expression, user)
    return FlowFilter(expression, root, not _by_connection(root))


def as_decided(f: http.HTTPFlow) -> http.HTTPFlow:
    """A flow under way, as it was when the policy decided: without answer and record."""
    before = copy.copy(f)
    before.response = before.websocket = before.error = None
    before.metadata = without_record(f.metadata)
    return before


def request_for(query: ExplainQuery) -> http.HTTPFlow:
    """The flow of a hypothetical request, as a client of the proxy would send it.

    Raises ``InvalidEntry`` (field "url").
    """
    url = parse_target_url(query.url)
    client = connection.Client(peername=(query.client, 0), sockname=("", 0))
    made = http.HTTPFlow(client, connection.Server(address=(url.host, url.port)))
    headers = http.Headers(host=url.authority)
    if url.scheme in ("ws", "wss"):
        headers["connection"], headers["upgrade"] = "Upgrade", "websocket"
    for name, value in query.headers.items():
        headers[name] = value
    made.request = http.Request(
        url.host,
        url.port,
        method=query.method.encode(),
        scheme=b"https" if url.is_tls else b"http",
        authority=b"",
        path=url.path.encode("utf-8", "surrogateescape"),
        http_version=b"HTTP/1.1",
        headers=headers,
        content=b"",
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )
    return made


def _by_connection(node: flowfilter.TFilter) -> bool:
    if isinstance(node, flowfilter.FAnd | flowfilter.FOr):
        return all(_by_connection(part) for part in node.lst)
    if isinstance(node, flowfilter.FNot):
        return _by_connection(node.itm)
    return isinstance(node, _TELL_BY_CONNECTION)


def _evaluate(node: flowfilter.TFilter, target: Target, f: flow.Flow) -> bool | None:
    if isinstance(node, flowfilter.FAnd):
        return _first(False, (_evaluate(part, target, f) for part in node.lst))
    if isinstance(node, flowfilter.FOr):
        return _first(True, (_evaluate(part, target, f) for part in node.lst))
    if isinstance(node, flowfilter.FNot):
        part = _evaluate(node.itm, target, f)
        return None if part is None else not part
    if isinstance(node, flowfilter.FDst):
        return node.re.search(f"{target.host}:{target.port}") is not None
    if isinstance(f, ConnectionView) and not isinstance(node, _TELL_BY_CONNECTION):
        return None
    if isinstance(node, _LOOK_AT_BODY) and isinstance(f, http.HTTPFlow) and f.request.stream:
        return None  # the body has not arrived, and will not be kept
    return bool(node(f))


def _first(verdict: bool, parts: Iterable[bool | None]) -> bool | None:
    """``verdict`` if any part has it, else ``None`` if any part is open, else the opposite."""
    is_open = False
    for part in parts:
        if part is verdict:
            return verdict
        is_open |= part is None
    return None if is_open else not verdict
