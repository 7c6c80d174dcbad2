"""The scopes that a proxy can be assigned to, as conditions of a rule."""

from typing import Any, Final

from ..errors import InvalidEntry
from ..model.network import parse_client_network
from ..model.rule import parse_host_pattern
from ..model.user import user_filter
from ..sentence import Sentence

GLOBAL_ID: Final = "__global__"
"""The ``scope_id`` of the one global assignment, as in OmniRoute."""


def scope_condition(scope: str, scope_id: str) -> dict[str, Any]:
    """The condition of a ``Rule`` that matches what the scope is about.

    A user is whom ``proxyauth`` let in; mitmproxy keeps the name in the metadata of the flow.
    Raises ``InvalidEntry`` (field "scope" or "scopeId").
    """
    if scope == "global":
        if scope_id != GLOBAL_ID:
            raise InvalidEntry(
                Sentence("scope_global", "the global scope has the scopeId {id}", id=GLOBAL_ID),
                "scopeId",
            )
        return {}
    if scope == "host":
        return {"hosts": [parse_host_pattern(scope_id)]}
    if scope == "client":
        return {"clients": [parse_client_network(scope_id)]}
    if scope == "user":
        return {"filter": user_filter(scope_id)}
    if scope == "filter":
        return {"filter": scope_id}
    raise InvalidEntry(
        Sentence("scope_words", "scope must be global, host, client, user or filter"), "scope"
    )
