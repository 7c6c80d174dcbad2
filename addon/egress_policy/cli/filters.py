"""mitmproxy's filter expressions. It is loaded for the first of them, which takes longer than most
commands do otherwise."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..management.explain import ExplainQuery
    from ..model.rule import Filter


def compile_filter(expression: str) -> "Filter":
    """Raises ``ValueError`` for what is no filter expression."""
    from ..proxy import filters

    return filters.compile_filter(expression)


def request_for(query: "ExplainQuery") -> object:
    """The flow that filters are asked about."""
    from ..proxy import filters

    return filters.request_for(query)
