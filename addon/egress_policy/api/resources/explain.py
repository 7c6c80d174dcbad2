"""What the policy says about a request that nobody sends."""

from typing import Final

from ...management.explain import ExplainQuery, Explanation
from ..calls import Call, Response
from ..routes import PREFIX, ApiRoute, Operation


async def _explain(call: Call) -> Response:
    return Response(call.management.explain(call.body))


ROUTES: Final = (
    ApiRoute(
        f"{PREFIX}/explain",
        {
            "POST": Operation(
                "explain",
                "Say which rule decides for a request, and why; sends nothing",
                _explain,
                {200: Explanation},
                body=ExplainQuery,
            )
        },
    ),
)
