"""List, show, create, change and delete, for every kind of entry."""

from collections.abc import Callable
from typing import Any

from pydantic import model_validator

from ...errors import InvalidEntry
from ...management.kind import Kind
from ...management.management import Management
from ...management.usage import UsageView
from ...management.views import Entry, Page
from ..calls import Call, Response, Run
from ..inputs import Flag, Id, Input, Paging
from ..routes import DONE, PREFIX, SUCCESS, WRITES, Fields, Operation, Routes


class EntryQuery(Paging):
    """With ``id`` that entry alone, with ``where_used`` what names it."""

    id: Id | None = None
    where_used: Flag = False

    @model_validator(mode="after")
    def _used_is_one(self) -> "EntryQuery":
        if self.where_used and self.id is None:
            raise InvalidEntry("say with id which entry is meant", "where_used")
        return self


class DeleteQuery(Input):
    """With ``force`` also what is in use; what used it refuses from then on."""

    id: Id
    force: Flag = False


class UnnamedDeleteQuery(Input):
    id: Id


def add_crud(
    routes: Routes,
    kind: type[Kind[Any]],
    of: Callable[[Management], Kind[Any]],
    *,
    query: type[EntryQuery] = EntryQuery,
    beside: tuple[str, ...] = (),
    create: Run | None = None,
    update: Run | None = None,
) -> None:
    """Add the route of a kind, which ``of`` finds. ``create`` and ``update`` are for a kind whose
    bodies have fields ``beside`` those of the entry."""
    view, noun, plural = kind.view, kind.noun, kind.plural
    page: Any = Page[view]  # type: ignore[valid-type]

    async def list_(call: Call) -> Response:
        id_, entries = call.query.id, of(call.management)
        await entries.prepare()
        if call.query.where_used:
            return Response(entries.usage(id_))
        if id_ is not None:
            return shown(entries.show(id_))
        return Response(entries.list(**call.query.model_dump(exclude={"id", "where_used"})))

    async def create_(call: Call) -> Response:
        return shown(await of(call.management).create(call.body), 201)

    async def update_(call: Call) -> Response:
        id_, changes = id_in(call)
        return shown(await of(call.management).update(id_, changes, call.if_match))

    async def delete(call: Call) -> Response:
        asked = call.query.model_dump()
        await of(call.management).delete(asked.pop("id"), **asked, if_match=call.if_match)
        return Response(DONE)

    found = (page, view, UsageView) if kind.is_named else (page, view)
    delete_query = DeleteQuery if kind.is_named else UnnamedDeleteQuery
    whole = Fields(kind.model, beside=beside)
    changes = Fields(kind.model, partial=True, beside=("id", *beside))
    changed = f"Change a {noun}: only the fields present change"
    routes[f"{PREFIX}/{plural}"] = {
        "GET": Operation(
            f"list_{plural}", f"List {plural}, or show one", list_, {200: found}, query,
            errors=(404,),
        ),
        "POST": Operation(
            f"create_{noun}", f"Create a {noun}", create or create_, {201: view},
            body=whole, errors=(404, 409, 503),
        ),
        "PATCH": Operation(
            f"update_{noun}_patch", changed, update or update_, {200: view},
            body=changes, errors=WRITES, if_match=True,
        ),
        "DELETE": Operation(
            f"delete_{noun}", f"Delete a {noun}", delete, {200: SUCCESS}, delete_query,
            errors=WRITES, if_match=True,
        ),
    }  # fmt: skip


def shown(entry: Entry, status: int = 200) -> Response:
    """An entry with its etag."""
    return Response(entry, status, entry.etag or None)


def id_in(call: Call) -> tuple[str, dict[str, Any]]:
    """The ``id`` in a body and the fields beside it."""
    changes = dict(call.body)
    id_ = changes.pop("id", None)
    if not isinstance(id_, str) or not id_:
        raise InvalidEntry("id: which entry is to change? A text is expected", "id")
    return id_, changes
