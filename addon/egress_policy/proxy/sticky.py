"""What a sticky pool finds at a target: its client, its user, its host, or a header."""

from mitmproxy import flow, http

from ..model.decision import Target
from ..model.pool import HEADER
from ..model.user import user_in
from .filters import ConnectionView


def sticky_key(by: str, target: Target) -> str | None:
    """The key for the ``sticky_by`` of a pool: empty where the target has none, ``None`` where only
    the request can tell."""
    f = target.flow
    if by == "client":
        return target.client
    if by == "host":
        return target.host
    if isinstance(f, http.HTTPFlow) and by.startswith(HEADER):
        return str(f.request.headers.get(by.removeprefix(HEADER), ""))
    if by == "user" and isinstance(f, flow.Flow) and (user := user_in(f.metadata)):
        return user
    return None if isinstance(f, ConnectionView) else ""
