"""What each operation of the API does: the use case of ``management`` that it stands for."""

import re
from typing import Any

from ..management.management import Management
from ..management.views import Entry, View
from .calls import Answer, Call
from .inputs import Assign, AssignmentQuery, EntryQuery, ProxyQuery
from .problems import Problem, invalid

_EXPORT_TYPES = {"text": "text/plain; charset=utf-8", "csv": "text/csv; charset=utf-8"}
_DONE = {"success": True}


def _shown(view: View, status: int = 200) -> Answer:
    """A view; an entry with its etag."""
    return Answer(view, status, view.etag or None if isinstance(view, Entry) else None)


def _id_in(call: Call) -> tuple[str, dict[str, Any]]:
    """The ``id`` in a body and the fields beside it."""
    changes = dict(call.body)
    id_ = changes.pop("id", None)
    if not isinstance(id_, str) or not id_:
        raise invalid("id: which entry is to change? A text is expected", "id")
    return id_, changes


# -- proxies


async def list_proxies(call: Call) -> Answer:
    query: ProxyQuery = call.query
    entries = call.management.entries
    if query.id is not None:
        return _shown(entries.usage(query.id) if query.where_used else entries.proxy(query.id))
    asked = query.model_dump(exclude={"id", "where_used"})
    return Answer(entries.proxies(**asked))


async def create_proxy(call: Call) -> Answer:
    return _shown(await call.management.entries.create_proxy(call.body), 201)


async def update_proxy(call: Call) -> Answer:
    id_, changes = _id_in(call)
    return _shown(await call.management.entries.update_proxy(id_, changes, call.if_match))


async def delete_proxy(call: Call) -> Answer:
    query, if_match = call.query, call.if_match
    await call.management.entries.delete_proxy(query.id, force=query.force, if_match=if_match)
    return Answer(_DONE)


async def test_proxy(call: Call) -> Answer:
    return Answer(await call.management.probes.test(call.arguments[0]))


async def import_proxies(call: Call) -> Answer:
    stated, transfer = call.body, call.management.transfer
    how = {
        "default_type": stated.type,
        "update": stated.update,
        "dry_run": stated.dry_run,
    }
    if stated.text is not None:
        return Answer(await transfer.import_text(stated.text, **how))
    return Answer(await transfer.import_items(stated.items, **how))


async def export_proxies(call: Call) -> Answer:
    form = call.query.format
    pieces = call.management.transfer.export_pieces(form, secrets=call.query.secrets)
    name = f"proxies.{'txt' if form == 'text' else form}"
    attachment = {"Content-Disposition": f'attachment; filename="{name}"'}
    stream = call.pacing.batches(pieces)
    return Answer(stream, type_=_EXPORT_TYPES.get(form, "application/json"), headers=attachment)


# -- assignments


async def list_assignments(call: Call) -> Answer:
    query: AssignmentQuery = call.query
    return Answer(
        call.management.entries.assignments(
            scope=query.scope,
            scope_id=query.scopeId,
            proxy_id=query.proxyId,
            limit=query.limit,
            offset=query.offset,
        )
    )


async def assign(call: Call) -> Answer:
    body: Assign = call.body
    entries, if_match = call.management.entries, call.if_match
    made = await entries.assign(body.scope, body.scopeId, body.proxyId, if_match)
    return Answer({**_DONE, "assignment": made.model_dump(mode="json") if made else None})


# -- pools


async def list_pools(call: Call) -> Answer:
    query: EntryQuery = call.query
    entries = call.management.entries
    if query.id is not None:
        return _shown(entries.usage(query.id) if query.where_used else entries.pool(query.id))
    return Answer(entries.pools(limit=query.limit, offset=query.offset))


async def create_pool(call: Call) -> Answer:
    return _shown(await call.management.entries.create_pool(call.body), 201)


async def update_pool(call: Call) -> Answer:
    id_, changes = _id_in(call)
    return _shown(await call.management.entries.update_pool(id_, changes, call.if_match))


async def delete_pool(call: Call) -> Answer:
    query, if_match = call.query, call.if_match
    await call.management.entries.delete_pool(query.id, force=query.force, if_match=if_match)
    return Answer(_DONE)


# -- rules


async def list_rules(call: Call) -> Answer:
    query: EntryQuery = call.query
    if query.where_used:
        raise invalid("nothing names a rule", "where_used")
    if query.id is not None:
        return _shown(call.management.entries.rule(query.id))
    return Answer(call.management.entries.rules(limit=query.limit, offset=query.offset))


async def create_rule(call: Call) -> Answer:
    fields = dict(call.body)
    before = _before(fields.pop("before", None))
    return _shown(await call.management.entries.create_rule(fields, before), 201)


async def update_rule(call: Call) -> Answer:
    id_, changes = _id_in(call)
    entries, if_match = call.management.entries, call.if_match
    if "before" in changes:
        before = _before(changes.pop("before"))
        if changes:
            raise invalid("move a rule, or change it: one at a time", "before")
        return _shown(await entries.move_rule(id_, before, if_match))
    return _shown(await entries.update_rule(id_, changes, if_match))


async def delete_rule(call: Call) -> Answer:
    await call.management.entries.delete_rule(call.query.id, call.if_match)
    return Answer(_DONE)


async def order_rules(call: Call) -> Answer:
    await call.management.entries.reorder_rules(call.body.ids)
    return Answer(_DONE)


def _before(stated: object) -> str | None:
    if stated is not None and not (isinstance(stated, str) and stated):
        raise invalid("before: the id of a rule or null is expected", "before")
    return stated


# -- the rest


async def show_settings(call: Call) -> Answer:
    return Answer(call.management.entries.settings())


async def change_settings(call: Call) -> Answer:
    return Answer(await call.management.entries.change_settings(call.body))


async def explain(call: Call) -> Answer:
    return Answer(call.management.explain(call.body))


async def show_status(call: Call) -> Answer:
    return Answer(call.management.status())


async def watch_flows(call: Call) -> Answer:
    last = call.headers.get("Last-Event-ID", "")
    since = int(last) if re.fullmatch(r"[0-9]{1,15}", last) else 0
    stream = await call.live_views.open(since)
    return Answer(stream, type_="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def show_health(call: Call) -> Answer:
    return health(call.management)


def health(management: Management) -> Answer:
    """Nothing but whether the policy is in force: anybody may ask."""
    if management.in_force.problem:
        return Answer({"status": "refusing"}, 503)
    return Answer({"status": "ok"})


async def show_session(_: Call) -> Answer:
    return Answer({"authenticated": True})


async def open_session(call: Call) -> Answer:
    gate = call.gate
    if call.body.link is not None:
        gate.redeem_link(call.body.link, call.peer)
    else:
        gate.require_token(call.body.token, call.peer)
    session = gate.open_session(call.headers)
    cookie = f"{gate.cookie}={session.value}; Path=/; HttpOnly; SameSite=Strict"
    return Answer({"key": session.key}, headers={"Set-Cookie": cookie})


async def close_session(call: Call) -> Answer:
    call.gate.close_session(call.headers)
    gone = f"{call.gate.cookie}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    return Answer(status=204, headers={"Set-Cookie": gone})


async def show_metrics(call: Call) -> Answer:
    try:
        from .metrics import CONTENT_TYPE, render
    except ImportError as error:
        hint = "pip install 'mitmproxy-egress-policy[metrics]'"
        raise Problem(501, "NOT_AVAILABLE", f"Metrics need prometheus-client: {hint}") from error
    return Answer(render(call.management.status()), type_=CONTENT_TYPE)
