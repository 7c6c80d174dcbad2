"""What the policy in force says of a flow that there is: for the prompt and the content view."""

from collections.abc import Mapping

from mitmproxy import flow, http
from pydantic import ValidationError

from ..errors import EgressError
from ..management.explain import ExplainQuery, Explanation
from ..management.management import Management
from ..model.host import url_host
from .filters import as_decided


def query_of(f: flow.Flow) -> ExplainQuery | None:
    """The request of a flow, or for another kind of flow its target, as it can be explained;
    ``None`` if it cannot."""
    client = str((f.client_conn.peername or [""])[0])  # of a saved flow it may be missing
    if isinstance(f, http.HTTPFlow):
        request = f.request
        place = f"{request.scheme or 'https'}://{url_host(request.host)}:{request.port}"
        # Paths and headers may hold what is no text, or be too long.
        for path, headers in ((request.path, dict(request.headers)), ("/", {})):
            if query := _query(place + path, client, request.method, headers):
                return query
    elif f.server_conn.address:
        host, port = f.server_conn.address[:2]
        return _query(f"https://{url_host(host)}:{port}/", client)
    return None


def explain_flow(management: Management, f: flow.Flow) -> Explanation | None:
    """What the policy says of such a flow now, as it was before it had an answer; ``None`` if that
    cannot be asked."""
    seen = as_decided(f) if isinstance(f, http.HTTPFlow) else f
    try:
        query = query_of(f)
        return management.explain(query, seen) if query else None
    except EgressError:
        return None


def _query(
    url: str, client: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> ExplainQuery | None:
    try:
        return ExplainQuery(url=url, client=client, method=method, headers=dict(headers or {}))
    except ValidationError:
        return None
