"""What the policy says about a request that nobody sends."""

from typing import Final

from ...management.explain import ExplainQuery, Explanation
from ..calls import Call, Response
from ..routes import PREFIX, Routes

ROUTES: Final = Routes()


@ROUTES.add("POST", f"{PREFIX}/explain", Explanation, body=ExplainQuery)
async def explain(call: Call) -> Response:
    """Say which rule decides for a request, and why; sends nothing."""
    return Response(call.management.explain(call.body))
