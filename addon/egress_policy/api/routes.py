"""The routes as data: what there is, who may ask, what it takes and what it answers.

The server and ``/openapi.json`` are both made from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from ..management.import_report import ImportReport
from ..management.views import (
    AssignmentView,
    ExplainQuery,
    Explanation,
    Page,
    PoolView,
    ProxyView,
    RuleView,
    SettingsView,
    StatusView,
    TestResult,
    UsageView,
)
from ..model.proxy import Proxy
from ..model.rule import Pool, Rule
from . import inputs, operations
from .calls import Run

Access = Literal["session", "anybody"]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Fields:
    """A body with the fields of an entry, which the registry checks.

    With ``partial`` only those present change. ``beside`` are fields of the API's own.
    """

    model: type[BaseModel]
    partial: bool = False
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """``answers`` are models or JSON schemas by status; ``errors`` the problems beside those that
    everything may answer."""

    summary: str
    run: Run
    answers: Mapping[int, Any]
    query: type[inputs.Input] = inputs.Nothing
    body: type[BaseModel] | Fields | None = None
    access: Access = "session"
    errors: tuple[int, ...] = ()
    media: tuple[str, ...] = ("application/json",)
    if_match: bool = False


@dataclass(frozen=True, slots=True)
class ApiRoute:
    path: str
    methods: Mapping[Method, Operation]


PREFIX: Final = "/api/v1/management"
LIVE: Final = f"{PREFIX}/flows/live"
"""Server-sent events, without an end."""

_SUCCESS: Final = {
    "type": "object",
    "properties": {"success": {"const": True}},
    "required": ["success"],
}
_STATUS_WORD: Final = {
    "type": "object",
    "properties": {"status": {"enum": ["ok", "refusing"]}},
    "required": ["status"],
}
_AUTHENTICATED: Final = {
    "type": "object",
    "properties": {"authenticated": {"const": True}},
    "required": ["authenticated"],
}
_SESSION: Final = {
    "type": "object",
    "properties": {"key": {"type": "string", "description": "For the header X-Egress-Session-Key"}},
    "required": ["key"],
}
_ASSIGNED: Final = {
    "type": "object",
    "properties": {"success": {"const": True}, "assignment": (AssignmentView, None)},
    "required": ["success", "assignment"],
}
_WRITES: Final = (404, 409, 412, 503)


def _crud(
    path: str, noun: str, page: Any, view: Any, model: type[BaseModel], do: Mapping[str, Run]
) -> ApiRoute:
    """List, create, change and delete one kind of entry."""
    query = inputs.ProxyQuery if model is Proxy else inputs.EntryQuery
    beside = ("before",) if model is Rule else ()
    delete = inputs.RuleDeleteQuery if model is Rule else inputs.DeleteQuery
    shown = (page, view) if model is Rule else (page, view, UsageView)
    methods: dict[Method, Operation] = {
        "GET": Operation(
            f"List {path.rpartition('/')[2]}, or show one",
            do["list"],
            {200: shown},
            query,
            errors=(404,),
        ),
        "POST": Operation(
            f"Create a {noun}",
            do["create"],
            {201: view},
            body=Fields(model, beside=beside),
            errors=(404, 409, 503),
        ),
        "PATCH": Operation(
            f"Change a {noun}: only the fields present change",
            do["update"],
            {200: view},
            body=Fields(model, partial=True, beside=("id", *beside)),
            errors=_WRITES,
            if_match=True,
        ),
        "DELETE": Operation(
            f"Delete a {noun}", do["delete"], {200: _SUCCESS}, delete, errors=_WRITES, if_match=True
        ),
    }
    return ApiRoute(path, methods)


ROUTES: Final = (
    _crud(
        f"{PREFIX}/proxies",
        "proxy",
        Page[ProxyView],
        ProxyView,
        Proxy,
        {
            "list": operations.list_proxies,
            "create": operations.create_proxy,
            "update": operations.update_proxy,
            "delete": operations.delete_proxy,
        },
    ),
    ApiRoute(
        f"{PREFIX}/proxies/assignments",
        {
            "GET": Operation(
                "List which scope leaves by which proxy",
                operations.list_assignments,
                {200: Page[AssignmentView]},
                inputs.AssignmentQuery,
            ),
            "PUT": Operation(
                "Assign a scope to a proxy, or clear it",
                operations.assign,
                {200: _ASSIGNED},
                body=inputs.Assign,
                errors=_WRITES,
                if_match=True,
            ),
        },
    ),
    ApiRoute(
        f"{PREFIX}/proxies/import",
        {
            "POST": Operation(
                "Import proxies; each line has a result of its own",
                operations.import_proxies,
                {200: ImportReport},
                body=inputs.Import,
                errors=(503,),
            )
        },
    ),
    ApiRoute(
        f"{PREFIX}/proxies/export",
        {
            "GET": Operation(
                "Export all proxies, with passwords only if secrets are asked for",
                operations.export_proxies,
                {200: {"description": "In the format asked for"}},
                inputs.ExportQuery,
                media=("text/plain", "text/csv", "application/json"),
            )
        },
    ),
    ApiRoute(
        f"{PREFIX}/proxies/{{id}}/test",
        {
            "POST": Operation(
                "Test a proxy through its pinned hop",
                operations.test_proxy,
                {200: TestResult},
                errors=(404,),
            )
        },
    ),
    _crud(
        f"{PREFIX}/pools",
        "pool",
        Page[PoolView],
        PoolView,
        Pool,
        {
            "list": operations.list_pools,
            "create": operations.create_pool,
            "update": operations.update_pool,
            "delete": operations.delete_pool,
        },
    ),
    _crud(
        f"{PREFIX}/rules",
        "rule",
        Page[RuleView],
        RuleView,
        Rule,
        {
            "list": operations.list_rules,
            "create": operations.create_rule,
            "update": operations.update_rule,
            "delete": operations.delete_rule,
        },
    ),
    ApiRoute(
        f"{PREFIX}/rules/order",
        {
            "PUT": Operation(
                "Put all rules of the registry in order",
                operations.order_rules,
                {200: _SUCCESS},
                body=inputs.Order,
                errors=_WRITES,
            )
        },
    ),
    ApiRoute(
        f"{PREFIX}/settings",
        {
            "GET": Operation(
                "Show what the registry says about the policy as a whole",
                operations.show_settings,
                {200: SettingsView},
            ),
            "PUT": Operation(
                "Change settings: only those present change, null clears one",
                operations.change_settings,
                {200: SettingsView},
                body=Fields(SettingsView, partial=True),
                errors=(503,),
            ),
            "PATCH": Operation(
                "The same as PUT",
                operations.change_settings,
                {200: SettingsView},
                body=Fields(SettingsView, partial=True),
                errors=(503,),
            ),
        },
    ),
    ApiRoute(
        f"{PREFIX}/explain",
        {
            "POST": Operation(
                "Say which rule decides for a request, and why; sends nothing",
                operations.explain,
                {200: Explanation},
                body=ExplainQuery,
            )
        },
    ),
    ApiRoute(
        f"{PREFIX}/status",
        {"GET": Operation("Show what is in force", operations.show_status, {200: StatusView})},
    ),
    ApiRoute(
        LIVE,
        {
            "GET": Operation(
                "Flows as they end, as server-sent events: flow, and lost with a count",
                operations.watch_flows,
                {200: {"type": "string"}},
                media=("text/event-stream",),
            )
        },
    ),
    ApiRoute(
        "/api/v1/session",
        {
            "GET": Operation(
                "Say whether the session is good", operations.show_session, {200: _AUTHENTICATED}
            ),
            "POST": Operation(
                "Open a session of the page by token or one-time link",
                operations.open_session,
                {200: _SESSION},
                body=inputs.SessionBody,
                access="anybody",
                errors=(401, 429),
            ),
            "DELETE": Operation("Log out", operations.close_session, {204: None}),
        },
    ),
    ApiRoute(
        "/healthz",
        {
            "GET": Operation(
                "Say whether the policy is in force",
                operations.show_health,
                {200: _STATUS_WORD, 503: _STATUS_WORD},
                access="anybody",
            )
        },
    ),
    ApiRoute(
        "/metrics",
        {
            "GET": Operation(
                "Metrics for Prometheus",
                operations.show_metrics,
                {200: {"type": "string"}},
                errors=(501,),
                media=("text/plain",),
            )
        },
    ),
)
