"""What each operation of the API does: the use case of ``management`` that it stands for."""

import re
from typing import Any

from ..management.management import Management
from ..management.views import Entry, View
from .calls import Call, Response
from .inputs import Assign, AssignmentQuery, EntryQuery, ProxyQuery
from .problems import Problem, invalid

_EXPORT_TYPES = {"text": "text/plain; charset=utf-8", "csv": "text/csv; charset=utf-8"}
_DONE = {"success": True}


def _shown(view: View, status: int = 200) -> Response:
    """A view; an entry with its etag."""
    return Response(view, status, view.etag or None if isinstance(view, Entry) else None)


def _id_in(call: Call) -> tuple[str, dict[str, Any]]:
    """The ``id`` in a body and the fields beside it."""
    changes = dict(call.body)
    id_ = changes.pop("id", None)
    if not isinstance(id_, str) or not id_:
        raise invalid("id: which entry is to change? A text is expected", "id")
    return id_, changes


# -- proxies


async def list_proxies(call: Call) -> Response:
    query: ProxyQuery = call.query
    entries = call.management.entries
    if query.id is not None:
        return _shown(entries.usage(query.id) if query.where_used else entries.proxy(query.id))
    asked = query.model_dump(exclude={"id", "where_used"})
    return Response(entries.proxies(**asked))


async def create_proxy(call: Call) -> Response:
    return _shown(await call.management.entries.create_proxy(call.body), 201)


async def update_proxy(call: Call) -> Response:
    id_, changes = _id_in(call)
    return _shown(await call.management.entries.update_proxy(id_, changes, call.if_match))


async def delete_proxy(call: Call) -> Response:
    query, if_match = call.query, call.if_match
    await call.management.entries.delete_proxy(query.id, force=query.force, if_match=if_match)
    return Response(_DONE)


async def test_proxy(call: Call) -> Response:
    return Response(await call.management.probes.test(call.arguments[0]))


async def import_proxies(call: Call) -> Response:
    stated, transfer = call.body, call.management.transfer
    how = {
        "default_type": stated.type,
        "update": stated.update,
        "dry_run": stated.dry_run,
    }
    if stated.text is not None:
        return Response(await transfer.import_text(stated.text, **how))
    return Response(await transfer.import_items(stated.items, **how))


async def export_proxies(call: Call) -> Response:
    form = call.query.format
    pieces = call.management.transfer.export_pieces(form, secrets=call.query.secrets)
    name = f"proxies.{'txt' if form == 'text' else form}"
    attachment = {"Content-Disposition": f'attachment; filename="{name}"'}
    stream = call.pacing.batches(pieces)
    return Response(stream, type_=_EXPORT_TYPES.get(form, "application/json"), headers=attachment)


# -- assignments


async def list_assignments(call: Call) -> Response:
    query: AssignmentQuery = call.query
    return Response(
        call.management.entries.assignments(
            scope=query.scope,
            scope_id=query.scopeId,
            proxy_id=query.proxyId,
            limit=query.limit,
            offset=query.offset,
        )
    )


async def assign(call: Call) -> Response:
    body: Assign = call.body
    entries, if_match = call.management.entries, call.if_match
    made = await entries.assign(body.scope, body.scopeId, body.proxyId, if_match)
    return Response({**_DONE, "assignment": made.model_dump(mode="json") if made else None})


# -- pools


async def list_pools(call: Call) -> Response:
    query: EntryQuery = call.query
    entries = call.management.entries
    if query.id is not None:
        return _shown(entries.usage(query.id) if query.where_used else entries.pool(query.id))
    return Response(entries.pools(limit=query.limit, offset=query.offset))


async def create_pool(call: Call) -> Response:
    return _shown(await call.management.entries.create_pool(call.body), 201)


async def update_pool(call: Call) -> Response:
    id_, changes = _id_in(call)
    return _shown(await call.management.entries.update_pool(id_, changes, call.if_match))


async def delete_pool(call: Call) -> Response:
    query, if_match = call.query, call.if_match
    await call.management.entries.delete_pool(query.id, force=query.force, if_match=if_match)
    return Response(_DONE)


# -- rules


async def list_rules(call: Call) -> Response:
    query: EntryQuery = call.query
    if query.where_used:
        raise invalid("nothing names a rule", "where_used")
    if query.id is not None:
        return _shown(call.management.entries.rule(query.id))
    return Response(call.management.entries.rules(limit=query.limit, offset=query.offset))


async def create_rule(call: Call) -> Response:
    fields = dict(call.body)
    before = _before(fields.pop("before", None))
    return _shown(await call.management.entries.create_rule(fields, before), 201)


async def update_rule(call: Call) -> Response:
    id_, changes = _id_in(call)
    entries, if_match = call.management.entries, call.if_match
    if "before" in changes:
        before = _before(changes.pop("before"))
        if changes:
            raise invalid("move a rule, or change it: one at a time", "before")
        return _shown(await entries.move_rule(id_, before, if_match))
    return _shown(await entries.update_rule(id_, changes, if_match))


async def delete_rule(call: Call) -> Response:
    await call.management.entries.delete_rule(call.query.id, call.if_match)
    return Response(_DONE)


async def order_rules(call: Call) -> Response:
    await call.management.entries.reorder_rules(call.body.ids)
    return Response(_DONE)


def _before(stated: object) -> str | None:
    if stated is not None and not (isinstance(stated, str) and stated):
        raise invalid("before: the id of a rule or null is expected", "before")
    return stated


# -- the rest


async def show_settings(call: Call) -> Response:
    return Response(call.management.entries.settings())


async def change_settings(call: Call) -> Response:
    return Response(await call.management.entries.change_settings(call.body))


async def explain(call: Call) -> Response:
    return Response(call.management.explain(call.body))


async def show_status(call: Call) -> Response:
    return Response(call.management.status())


async def watch_flows(call: Call) -> Response:
    last = call.headers.get("Last-Event-ID", "")
    since = int(last) if re.fullmatch(r"[0-9]{1,15}", last) else 0
    stream = await call.live_views.open(since)
    return Response(stream, type_="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def show_health(call: Call) -> Response:
    return health(call.management)


def health(management: Management) -> Response:
    """Nothing but whether the policy is in force: anybody may ask."""
    if management.in_force.problem:
        return Response({"status": "refusing"}, 503)
    return Response({"status": "ok"})


async def show_session(_: Call) -> Response:
    return Response({"authenticated": True})


async def open_session(call: Call) -> Response:
    gate = call.gate
    if call.body.link is not None:
        gate.redeem_link(call.body.link, call.peer)
    else:
        gate.require_token(call.body.token, call.peer)
    session = gate.open_session(call.headers)
    cookie = f"{gate.cookie}={session.value}; Path=/; HttpOnly; SameSite=Strict"
    return Response({"key": session.key}, headers={"Set-Cookie": cookie})


async def close_session(call: Call) -> Response:
    call.gate.close_session(call.headers)
    gone = f"{call.gate.cookie}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    return Response(status=204, headers={"Set-Cookie": gone})


async def show_metrics(call: Call) -> Response:
    try:
        from .metrics import CONTENT_TYPE, render
    except ImportError as error:
        hint = "pip install 'mitmproxy-egress-policy[metrics]'"
        raise Problem(501, "NOT_AVAILABLE", f"Metrics need prometheus-client: {hint}") from error
    return Response(render(call.management.status()), type_=CONTENT_TYPE)
