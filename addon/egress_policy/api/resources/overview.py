"""What flows did in the last hour, and how each exit does."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from ...errors import InvalidEntry
from ...management.overview import SORTS, Overview
from ..calls import Call, Response
from ..inputs import Paging
from ..routes import PREFIX, Routes

ROUTES: Final = Routes()


def _sort(value: object) -> object:
    if not isinstance(value, str) or value.removeprefix("-") not in SORTS:
        raise InvalidEntry(f"one of {', '.join(SORTS)}, perhaps with - before it, is expected")
    return value


class OverviewQuery(Paging):
    """About the exits: ``q`` is a part of the name."""

    q: Annotated[str, Field(max_length=200)] = ""
    sort: Annotated[str, BeforeValidator(_sort)] = "-flows"


@ROUTES.add("GET", f"{PREFIX}/overview", Overview, query=OverviewQuery)
async def show_overview(call: Call) -> Response:
    """Show what flows did in the last hour, and how each exit does."""
    return Response(await call.management.overviews.show(**call.query.model_dump()))
