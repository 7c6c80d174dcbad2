"""Proxies: their list, imports, exports and tests."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ...errors import InvalidEntry
from ...management.bulk import MOST, BulkEdit, BulkReport
from ...management.export import Format
from ...management.import_report import ImportReport
from ...management.proxies import SORTS, LabelsView, Proxies
from ...management.states import ResetView
from ...management.test_result import TestedView, TestResult
from ...management.transfer import ImportOptions
from ...model.proxy import Proxy, ProxyType
from ...model.tags import MOST as MOST_TAGS
from ...sentence import Sentence
from ..calls import Call, Response
from ..inputs import Flag, Id, Input
from ..routes import PREFIX, Routes
from .crud import EntryQuery, add_crud

ROUTES: Final = Routes()
_LONGEST_LIST: Final = 8 << 20
_SORTS: Final = tuple(sign + name for name in SORTS for sign in ("", "-"))
_EXPORT_TYPES: Final = {
    "text": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "clash": "application/yaml",
}
_SUFFIXES: Final = {"text": "txt", "clash": "yaml"}


def _sort(value: object) -> object:
    if value not in _SORTS:
        raise InvalidEntry(f"one of {', '.join(SORTS)}, perhaps with - before it, is expected")
    return value


class ProxyQuery(EntryQuery):
    q: Annotated[str, Field(max_length=200)] = ""
    tag: Annotated[str, Field(max_length=820, description="tags, separated by commas")] = ""
    type: Literal["", "http", "https", "socks5"] = ""
    test: Literal["", "good", "failed", "none"] = ""
    region: Annotated[str, Field(max_length=64)] = ""
    family: Literal["", "auto", "ipv4", "ipv6"] = ""
    status: Literal["", "active", "inactive"] = ""
    source: Literal["", "file", "registry"] = ""
    sort: Annotated[str, BeforeValidator(_sort)] = "name"


class Import(Input):
    """Either text in any form that an export has, or items with the
    fields of a proxy. ``type`` is for those that name none. ``update`` takes other credentials,
    region, notes and tags for a proxy of the same name. ``dry_run`` keeps nothing."""

    text: Annotated[str, Field(max_length=_LONGEST_LIST)] | None = None
    items: Annotated[list[Any], Field(max_length=20_000)] | None = None
    type: ProxyType | None = None
    update: bool = False
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> "Import":
        if (self.text is None) == (self.items is None):
            raise InvalidEntry(
                Sentence("text_or_items", "either text or items is expected"), "text"
            )
        return self


_SomeTags = Annotated[tuple[str, ...], Field(max_length=MOST_TAGS, strict=False)]


class BulkBody(Input):
    """What changes, or ``delete``. ``changes`` has fields of a proxy except its name; tags are
    added and removed beside those that each proxy has. ``force`` also deletes what is in use."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST)]
    changes: Annotated[dict[str, Any], Field(default_factory=dict)]
    add_tags: _SomeTags = ()
    remove_tags: _SomeTags = ()
    delete: bool = False
    force: bool = False

    @field_validator("changes")
    @classmethod
    def _can_be_shared(cls, changes: dict[str, Any]) -> dict[str, Any]:
        for name in changes:
            if name == "name" or name not in Proxy.model_fields:
                raise InvalidEntry(
                    Sentence(
                        "not_shared",
                        "{name!r} is no field that many proxies can share",
                        name=name[:40],
                    ),
                    "",
                )
        return changes


class ManyTests(Input):
    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST)]


class ExportQuery(Input):
    format: Format = "text"
    secrets: Flag = False


add_crud(ROUTES, Proxies, lambda management: management.proxies, query=ProxyQuery)


@ROUTES.add("GET", f"{PREFIX}/proxies/labels", LabelsView)
async def list_labels(call: Call) -> Response:
    """List the tags and regions that proxies have."""
    return Response(call.management.proxies.labels())


@ROUTES.add(
    "POST", f"{PREFIX}/proxies/import", ImportReport,
    body=Import, errors=(503,), longest_body=_LONGEST_LIST,
)  # fmt: skip
async def import_proxies(call: Call) -> Response:
    """Import proxies; each line has a result of its own."""
    given: Import = call.body
    how: ImportOptions = {"update": given.update, "dry_run": given.dry_run}
    transfer = call.management.transfer
    if given.text is not None:
        return Response(await transfer.import_text(given.text, default_type=given.type, **how))
    return Response(await transfer.import_items(given.items or [], default_type=given.type, **how))


@ROUTES.add(
    "GET", f"{PREFIX}/proxies/export", {"description": "In the format asked for"},
    query=ExportQuery,
    media=("text/plain", "text/csv", "application/json", "application/yaml"),
)  # fmt: skip
async def export_proxies(call: Call) -> Response:
    """Export all proxies, with passwords only if secrets are asked for."""
    form = call.query.format
    pieces = call.management.transfer.export_pieces(form, secrets=call.query.secrets)
    name = f"proxies.{_SUFFIXES.get(form, form)}"
    attachment = {"Content-Disposition": f'attachment; filename="{name}"'}
    stream = call.pacing.batches(pieces)
    return Response(stream, type_=_EXPORT_TYPES.get(form, "application/json"), headers=attachment)


@ROUTES.add("POST", f"{PREFIX}/proxies/bulk", BulkReport, body=BulkBody, errors=(503,))
async def edit_proxies(call: Call) -> Response:
    """Change or delete many proxies in one transaction; what stays as it is is reported."""
    given: BulkBody = call.body
    edit = BulkEdit(**given.model_dump(exclude={"ids"}))
    return Response(await call.management.bulk.edit(given.ids, edit))


@ROUTES.add(
    "POST", f"{PREFIX}/proxies/tests", TestedView, body=ManyTests, media=("application/x-ndjson",),
)  # fmt: skip
async def test_proxies(call: Call) -> Response:
    """Test many proxies; each line is the result of one, as it comes. Closing ends it."""

    async def lines() -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(call.management.probes.test_many(call.body.ids)) as tests:
            async for id_, result in tests:
                yield TestedView(id=id_, result=result).model_dump_json().encode() + b"\n"

    headers = {"X-Accel-Buffering": "no"}
    return Response(lines(), type_="application/x-ndjson", headers=headers)


@ROUTES.add("POST", f"{PREFIX}/proxies/{{id}}/test", TestResult, errors=(404,))
async def test_proxy(call: Call) -> Response:
    """Test a proxy through its pinned hop."""
    return Response(await call.management.probes.test(call.arguments[0]))


@ROUTES.add("POST", f"{PREFIX}/proxies/{{id}}/reset", ResetView, errors=(404,))
async def reset_proxy(call: Call) -> Response:
    """Close the circuit of a proxy, so that it is used again at once."""
    return Response(call.management.reset(call.arguments[0]))
