"""Rules, and their order."""

from typing import Annotated, Final

from pydantic import Field

from ...errors import InvalidEntry
from ...management.rule_order import RuleOrderView
from ...management.rules import Rules
from ...sentence import Sentence
from ..calls import Call, Response
from ..inputs import Id, Input, Paging
from ..routes import DONE, PREFIX, SUCCESS, WRITES, Routes
from .crud import add_crud, id_in, shown

ROUTES: Final = Routes()
_ORDER: Final = f"{PREFIX}/rules/order"


class Order(Input):
    """All rules of the registry, each once."""

    ids: Annotated[list[Id], Field(max_length=20_000)]


class OrderQuery(Paging):
    """``q`` is looked for in labels, conditions and what is used."""

    q: Annotated[str, Field(max_length=200)] = ""


async def _create(call: Call) -> Response:
    fields = dict(call.body)
    before = _before(fields.pop("before", None))
    return shown(await call.management.rules.create(fields, before), 201)


async def _update(call: Call) -> Response:
    id_, changes = id_in(call)
    rules = call.management.rules
    if "before" not in changes:
        return shown(await rules.update(id_, changes, call.if_match))
    before = _before(changes.pop("before"))
    if changes:
        raise InvalidEntry(
            Sentence("move_or_change", "move a rule, or change it: one at a time"), "before"
        )
    return shown(await rules.move(id_, before, call.if_match))


def _before(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise InvalidEntry("before: the id of a rule or null is expected", "before")
    return value


add_crud(
    ROUTES, Rules, lambda management: management.rules,
    beside=("before",), create=_create, update=_update,
)  # fmt: skip


@ROUTES.add("GET", _ORDER, RuleOrderView, query=OrderQuery)
async def list_order(call: Call) -> Response:
    """List all that decides, in the order in which it is asked."""
    return Response(await call.management.rule_order.list(**call.query.model_dump()))


@ROUTES.add("PUT", _ORDER, SUCCESS, body=Order, errors=WRITES)
async def order_rules(call: Call) -> Response:
    """Put all rules of the registry in order."""
    await call.management.rules.reorder(call.body.ids)
    return Response(DONE)
