"""The API as scripts and browsers meet it: routes, answers, errors, and who is let in."""

import asyncio
import contextlib
import json
import logging
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from egress_policy.api.auth import KEY_HEADER, LINKS
from egress_policy.api.link_page import LinkPage
from egress_policy.api.listener import OPEN, ClientConnection
from egress_policy.api.live_views import VIEWS
from egress_policy.api.openapi import document
from egress_policy.api.resources import ROUTES
from egress_policy.api.resources.flows import LIVE
from egress_policy.errors import InvalidEntry
from egress_policy.management.live import LiveEvent
from tests.api.scene import PREFIX, Scene, serving

JSON = {"Content-Type": "application/json"}
TWICE = '{"name": "a", "host": "h.test", "family": "ipv6", "family": "auto"}'
SECRET = "hush-hush-7"


def event(**fields: Any) -> LiveEvent:
    common: dict[str, Any] = {"at": 0.0, "flow_id": "f", "client": "127.0.0.1", "kind": "http"}
    return LiveEvent(**common, host="x.test", port=443, use="direct", **fields)


# --- entries


async def test_the_two_calls_of_omniroute_work(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.ask(
            "POST",
            "/proxies",
            headers=JSON,
            content='{"name": "IPv6 egress", "type": "socks5", "host": "proxy.example.com", '
            '"port": 1080, "family": "ipv6"}',
        )
        assert made.status_code == 201
        assert made.json()["family"] == "ipv6"
        body = {"id": made.json()["id"], "family": "ipv4"}
        changed = await scene.ask("PATCH", "/proxies", headers=JSON, content=json.dumps(body))
        assert changed.status_code == 200
        shown = await scene.ask("GET", "/proxies", params={"id": made.json()["id"]})
        assert shown.json()["family"] == "ipv4"
        assert shown.json()["port"] == 1080
        assert shown.headers["etag"] == f'"{shown.json()["etag"]}"'


async def test_list_has_pages_and_filters(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        for name, family in (("a", "ipv4"), ("b", "ipv6"), ("c", "auto")):
            await scene.make(name, host=f"{name}.example", family=family)
        answer = (await scene.ask("GET", "/proxies?limit=1&offset=1&sort=-name")).json()
        assert [one["name"] for one in answer["items"]] == ["b"]
        assert answer["page"] == {"limit": 1, "offset": 1, "total": 3}
        found = (await scene.ask("GET", "/proxies?family=ipv6&q=B.ex&status=active")).json()
        assert [one["name"] for one in found["items"]] == ["b"]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=201", "limit=x", "limit=-1", "limit=1e2", "limit=+5", "limit=5_0"),
        *("offset=-1", "offset=", "family=IPv6", "sort=password", "where_used=yes", "nonsense=1"),
        *("limit=1&limit=2", "source=nowhere", "where_used=1"),
    ],
)
async def test_nonsense_in_the_query_is_rejected(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path, registry="") as scene:
        answer = await scene.ask("GET", f"/proxies?{query}")
        assert answer.status_code == 400
        (error,) = answer.json()["errors"]
        assert error["field"] == query.partition("=")[0]
        assert "Value error" not in answer.text


@pytest.mark.parametrize(
    ("stated", "field"),
    [
        ({"host": "192.0.2.1", "family": "ipv6"}, "family"),
        ({"host": "::ffff:192.0.2.1", "family": "ipv6"}, "family"),
        ({"family": "IPv6"}, "family"),
        ({"port": "1080"}, "port"),
        ({"port": 0}, "port"),
        ({"host": "0x7f.1"}, "host"),
        ({"host": "a/b"}, "host"),
        ({"name": ""}, "name"),
        ({"type": "socks4"}, "type"),
        ({"region": "r" * 65}, "region"),
        ({"notes": "n" * 1001}, "notes"),
        ({"colour": "red"}, "colour"),
        ({"status": "off"}, "status"),
    ],
)
async def test_what_cannot_be_is_rejected_when_it_is_saved(
    tmp_path: Path, stated: dict[str, Any], field: str
) -> None:
    async with serving(tmp_path) as scene:
        fields = {"name": "one", "type": "http", "host": "proxy.example", "port": 8080, **stated}
        answer = await scene.ask("POST", "/proxies", json=fields)
        assert answer.status_code == 400
        assert field in [one["field"] for one in answer.json()["errors"]]
        assert (await scene.ask("GET", "/proxies")).json()["page"]["total"] == 0


async def test_patch_changes_only_what_is_present_and_honours_if_match(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.make(host="proxy.example", family="ipv6", username="u", password=SECRET)
        body = {"id": made["id"], "notes": "new"}
        old = {"If-Match": f'"{made["etag"]}"'}
        changed = await scene.ask("PATCH", "/proxies", json=body, headers=old)
        assert (changed.json()["family"], changed.json()["password"]) == ("ipv6", {"set": True})
        assert (await scene.ask("PATCH", "/proxies", json=body, headers=old)).status_code == 412
        for tag in ("*", changed.headers["etag"]):
            answer = await scene.ask("PATCH", "/proxies", json=body, headers={"If-Match": tag})
            if tag == "*":
                assert answer.status_code == 200
            else:
                assert answer.status_code == 412
        weak = {"If-Match": 'W/"1"'}
        assert (await scene.ask("PATCH", "/proxies", json=body, headers=weak)).status_code == 400
        assert (await scene.ask("PATCH", "/proxies", json={"notes": "x"})).status_code == 400


async def test_socks5_username_stands_without_a_password(tmp_path: Path) -> None:
    fields = {"name": "one", "type": "socks5", "host": "proxy.example", "username": "alice"}
    async with serving(tmp_path) as scene:
        made = await scene.ask("POST", "/proxies", json={**fields, "password": SECRET})
        assert made.status_code == 201
        change = {"id": made.json()["id"], "password": ""}
        changed = await scene.ask("PATCH", "/proxies", json=change)
        assert changed.status_code == 200
        assert changed.json()["username"] == "alice"
        assert changed.json()["password"] == {"set": False}
        answer = await scene.ask(
            "PATCH", "/proxies", json={**change, "username": "", "password": "x"}
        )
        assert [one["field"] for one in answer.json()["errors"]] == ["username"]


async def test_proxy_in_use_is_deleted_by_force_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.make()
        rule = (await scene.ask("POST", "/rules", json={"name": "r", "use": "one"})).json()
        used = await scene.ask("GET", f"/proxies?id={made['id']}&where_used=1")
        assert used.json()["rules"] == [{"id": rule["id"], "name": "r"}]
        refused = await scene.ask("DELETE", f"/proxies?id={made['id']}")
        assert refused.status_code == 409
        assert (refused.json()["code"], refused.json()["usage"]["count"]) == ("IN_USE", 1)
        forced = await scene.ask("DELETE", f"/proxies?id={made['id']}&force=1")
        assert forced.json() == {"success": True}
        shown = (await scene.ask("GET", f"/rules?id={rule['id']}")).json()
        assert "deleted" in shown["refuses"]
        asked = {"url": "https://any.test/"}
        explained = (await scene.ask("POST", "/explain", json=asked)).json()
        assert (explained["outcome"], explained["reason"]) == ("refuse", "deleted")


async def test_assignments_as_in_omniroute(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.make()
        body = {"scope": "global", "proxyId": made["id"]}
        assigned = (await scene.ask("PUT", "/proxies/assignments", json=body)).json()
        assert assigned["success"]
        assert assigned["assignment"]["proxyId"] == made["id"]
        listed = (await scene.ask("GET", f"/proxies/assignments?proxyId={made['id']}")).json()
        assert listed["page"]["total"] == 1
        explained = await scene.ask("POST", "/explain", json={"url": "http://x.test/"})
        assert explained.json()["egresses"][0]["name"] == "one"
        body["proxyId"] = None
        cleared = (await scene.ask("PUT", "/proxies/assignments", json=body)).json()
        assert cleared == {"success": True, "assignment": None}


async def test_pools_rules_and_settings_are_kept_the_same_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        await scene.make()
        pool = await scene.ask("POST", "/pools", json={"name": "homes", "members": ["one"]})
        assert pool.status_code == 201
        patch = {"id": pool.json()["id"], "strategy": "fastest"}
        refused = await scene.ask("PATCH", "/pools", json=patch)
        assert refused.status_code == 400
        assert "first, round-robin, random" in refused.json()["detail"]
        patch = {"id": pool.json()["id"], "strategy": "first"}
        assert (await scene.ask("PATCH", "/pools", json=patch)).json()["members"] == ["one"]
        first = (await scene.ask("POST", "/rules", json={"name": "a", "use": "homes"})).json()
        second = (
            await scene.ask(
                "POST", "/rules", json={"name": "b", "use": "refuse", "before": first["id"]}
            )
        ).json()
        assert second["number"] == 1
        moved = await scene.ask("PATCH", "/rules", json={"id": second["id"], "before": None})
        assert moved.json()["number"] == 2
        both = {"id": second["id"], "before": None, "name": "c"}
        assert (await scene.ask("PATCH", "/rules", json=both)).status_code == 400
        order = {"ids": [second["id"], first["id"]]}
        assert (await scene.ask("PUT", "/rules/order", json=order)).status_code == 200
        labels = [one["label"] for one in (await scene.ask("GET", "/rules")).json()["items"]]
        assert labels == ["b", "a"]
        assert (await scene.ask("PUT", "/rules/order", json={"ids": []})).status_code == 412
        settings = await scene.ask("PUT", "/settings", json={"default": "refuse"})
        assert settings.json() == {"default": "refuse", "test_url": None, "echo": None}
        echo = {"ipv4": "http://a.example/", "ipv6": None}
        changed = await scene.ask("PATCH", "/settings", json={"echo": echo})
        assert changed.json()["echo"] == echo
        wrong = await scene.ask("PATCH", "/settings", json={"echo": {"ipv4": "nowhere"}})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "echo.ipv4")
        assert (await scene.ask("PATCH", "/settings", json={"colour": 1})).status_code == 400
        assert (await scene.ask("GET", "/status")).json()["default_from"] == "registry"
        assert (await scene.ask("DELETE", f"/rules?id={first['id']}")).status_code == 200
        assert (await scene.ask("DELETE", f"/pools?id={pool.json()['id']}")).status_code == 200


async def test_pools_and_proxies_have_all_their_fields(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        fields = {"health": "ignore", "max_connections": 5, "exit_family": "ipv6"}
        fields |= {"exit_in": ["2001:db8::/32"], "exit_enforce": True}
        made = await scene.ask("POST", "/proxies", json={"name": "a", "host": "h", **fields})
        assert {key: made.json()[key] for key in fields} == fields
        wrong = {"id": made.json()["id"], "exit_family": None, "exit_in": []}
        refused = await scene.ask("PATCH", "/proxies", json=wrong)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "exit_enforce")
        inline = {"host": "g", "type": "https", **fields}
        rule = (await scene.ask("POST", "/rules", json={"use": inline})).json()
        assert {key: rule["use"][key] for key in fields} == fields
        pool: dict[str, Any] = {"name": "homes", "members": [{"name": "a", "weight": 3}]}
        pool["strategy"] = "sticky"
        pool |= {"sticky_by": "account", "failover": 0, "seed": 7}
        checks = {"every": "2m", "url": {"ipv6": "https://a.example/"}, "members": "all"}
        added = (await scene.ask("POST", "/pools", json={**pool, "checks": checks})).json()
        assert added["members"] == [{"name": "a", "weight": 3}]
        assert (added["sticky_by"], added["failover"], added["seed"]) == ("user", 0, 7)
        assert added["checks"] == {
            "every": 120,
            "expect": "200-399",
            "members": "all",
            "url": {"ipv4": None, "ipv6": "https://a.example/"},
        }
        again = {"id": added["id"], "members": ["a"], "checks": None}
        changed = (await scene.ask("PATCH", "/pools", json=again)).json()
        assert (changed["members"], changed["checks"], changed["seed"]) == (["a"], None, 7)
        scope = {"scope": "user", "scopeId": "bob", "proxyId": made.json()["id"]}
        for group, kept in (("shop", "shop"), (None, "shop"), ("", "")):
            body = {**scope, "group": group} if group is not None else scope
            assigned = await scene.ask("PUT", "/proxies/assignments", json=body)
            assert assigned.json()["assignment"]["group"] == kept


async def test_import_and_export(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        body = {"text": f"socks5://u:{SECRET}@192.0.2.7:1080#seven\nnonsense\n# x\n"}
        tried = (await scene.ask("POST", "/proxies/import", json={**body, "dry_run": True})).json()
        assert (tried["created"], tried["failed"]) == (1, 1)
        assert (await scene.ask("GET", "/proxies")).json()["page"]["total"] == 0
        done = (await scene.ask("POST", "/proxies/import", json=body)).json()
        assert [one["outcome"] for one in done["results"] if one["line"] == 2] == ["failed"]
        items = {"items": [{"name": "eight", "host": "192.0.2.8"}]}
        assert (await scene.ask("POST", "/proxies/import", json=items)).json()["created"] == 1
        for form in ("text", "csv", "json"):
            plain = await scene.ask("GET", f"/proxies/export?format={form}")
            assert "seven" in plain.text
            assert SECRET not in plain.text
            secret = await scene.ask("GET", f"/proxies/export?format={form}&secrets=1")
            assert SECRET in secret.text
            assert "attachment" in secret.headers["content-disposition"]
            for exported in (plain.text, secret.text):
                back = await scene.ask("POST", "/proxies/import", json={"text": exported})
                assert (back.json()["failed"], back.json()["created"]) == (0, 0)
                skipped = [one["name"] for one in back.json()["results"] if one["name"]]
                assert sorted(skipped) == ["eight", "seven"]
        changed = {"text": "socks5://u:other@192.0.2.7:1080#seven", "update": True}
        assert (await scene.ask("POST", "/proxies/import", json=changed)).json()["updated"] == 1
        bare = {"text": "192.0.2.7:1", "type": "https", "dry_run": True}
        (line,) = (await scene.ask("POST", "/proxies/import", json=bare)).json()["results"]
        assert (line["type"], line["assumes_type"]) == ("https", True)
        mixed = {"items": [5, {"name": "nine", "host": "192.0.2.9"}]}
        told = (await scene.ask("POST", "/proxies/import", json=mixed)).json()
        assert [one["outcome"] for one in told["results"]] == ["failed", "created"]
        wrongs = ({**body, **items}, {**body, "dry_run": "no"}, {**body, "type": "ftp"})
        for wrong, field in zip(wrongs, ("text", "dry_run", "type"), strict=True):
            answer = await scene.ask("POST", "/proxies/import", json=wrong)
            assert answer.status_code == 400
            assert [one["field"] for one in answer.json()["errors"]] == [field]


async def test_many_proxies_are_changed_and_deleted_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        ids = [(await scene.make(name))["id"] for name in "abc"]
        body = {"ids": [*ids, "gone"], "changes": {"status": "inactive", "notes": "weekend"}}
        answer = (await scene.ask("POST", "/proxies/bulk", json=body)).json()
        assert (answer["done"], [one["id"] for one in answer["failed"]]) == (3, ["gone"])
        listed = (await scene.ask("GET", "/proxies?status=inactive&q=weekend")).json()
        assert listed["page"]["total"] == 3
        answer = await scene.ask("POST", "/proxies/bulk", json={"ids": ids, "delete": True})
        assert answer.json() == {"done": 3, "failed": []}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({}, "changes"),
        ({"changes": {"name": "x"}}, "changes"),
        ({"changes": {"nonsense": 1}}, "changes"),
        ({"changes": {"family": "ipv6"}, "delete": True}, "changes"),
        ({"changes": {"family": "ipv6"}, "force": True}, "force"),
        ({"ids": [], "delete": True}, "ids"),
        ({"ids": ["a"] * 20_001, "delete": True}, "ids"),
    ],
)
async def test_change_of_many_that_cannot_be_meant_is_rejected(
    tmp_path: Path, more: dict[str, Any], field: str
) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.make()
        body = {"ids": [made["id"]], **more}
        answer = await scene.ask("POST", "/proxies/bulk", json=body)
        assert answer.status_code == 400
        assert [one["field"] for one in answer.json()["errors"]] == [field]


async def test_test_of_a_proxy_that_cannot_be_reached_is_an_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.make(host="127.0.0.1", port=1)
        answer = await scene.ask("POST", f"/proxies/{made['id']}/test")
        assert answer.status_code == 200
        assert (answer.json()["ok"], answer.json()["reason"]) == (False, "connect_refused")
        shown = (await scene.ask("GET", f"/proxies?id={made['id']}")).json()
        assert shown["last_test"]["reason"] == "connect_refused"
        assert (await scene.ask("POST", "/proxies/nobody/test")).status_code == 404


async def test_tests_of_many_proxies_are_answered_line_by_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        ids = [(await scene.make(name, host="127.0.0.1", port=1))["id"] for name in "abc"]
        answer = await scene.ask("POST", "/proxies/tests", json={"ids": [*ids, "gone"]})
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        found = {one["id"]: one["result"]["reason"] for one in lines}
        assert found == {**dict.fromkeys(ids, "connect_refused"), "gone": "not_found"}


async def test_entries_of_the_policy_file_are_read_only(tmp_path: Path) -> None:
    policy = {"proxies": [{"name": "ours", "host": "192.0.2.9"}]}
    async with serving(tmp_path, policy=policy) as scene:
        answer = await scene.ask("PATCH", "/proxies", json={"id": "file:ours", "port": 1})
        assert (answer.status_code, answer.json()["code"]) == (409, "READ_ONLY")


# --- errors have one shape


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/proxies?id=nobody", {}, 404, "NOT_FOUND"),
        ("GET", "/nowhere", {}, 404, "NOT_FOUND"),
        ("PUT", "/proxies", {}, 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", "/proxies", {}, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/proxies", {"content": "{}"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/proxies", {"data": {"name": "x"}}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/proxies", {"headers": JSON, "content": "{"}, 400, "INVALID_JSON"),
        ("POST", "/proxies", {"headers": JSON, "content": "[]"}, 400, "INVALID_JSON"),
        ("POST", "/proxies", {"headers": JSON, "content": b"\xff"}, 400, "INVALID_JSON"),
        ("POST", "/proxies", {"headers": JSON, "content": '{"port": NaN}'}, 400, "INVALID_JSON"),
        ("POST", "/proxies", {"headers": JSON, "content": "[" * 99_999}, 400, "INVALID_JSON"),
        ("POST", "/proxies", {"headers": JSON, "content": TWICE}, 400, "INVALID_JSON"),
        ("POST", "/flows/live", {}, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/proxies", {"headers": JSON, "content": "x" * 1_048_577}, 413, "TOO_LARGE"),
        ("POST", "/explain", {"json": {"url": "nonsense"}}, 400, "INVALID_ENTRY"),
        ("POST", "/explain", {"json": {"url": "http://x/", "client": "y"}}, 400, "INVALID_ENTRY"),
        ("GET", "/status", {"headers": {"Authorization": "Bearer no"}}, 401, "UNAUTHENTICATED"),
        ("GET", "/status", {"headers": {"Authorization": "Basic no"}}, 401, "UNAUTHENTICATED"),
        ("GET", "/status", {"headers": {"Host": "evil.test"}}, 421, "MISDIRECTED"),
        ("POST", "/explain", {"headers": {"Origin": "http://evil.test"}}, 403, "FORBIDDEN"),
        ("POST", "/explain", {"headers": {"Origin": "null"}}, 403, "FORBIDDEN"),
        ("POST", "/explain", {"headers": {"Sec-Fetch-Site": "same-site"}}, 403, "FORBIDDEN"),
        ("POST", "/static/nothing.js", {}, 404, "NOT_FOUND"),
        ("GET", "/static/../server.py", {}, 404, "NOT_FOUND"),
        ("GET", "/static/%2e%2e/server.py", {}, 404, "NOT_FOUND"),
        ("DELETE", "/openapi.json", {}, 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_every_error_has_the_same_shape(
    tmp_path: Path, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    async with serving(tmp_path) as scene:
        answer = await scene.ask(method, path, **options)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
        assert body["title"]
        assert body["detail"]
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/proxies", "/healthz"])
async def test_head_is_get_without_the_body(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as scene:
        shown, headers = await scene.ask("GET", path), await scene.ask("HEAD", path)
        assert headers.status_code == 200
        assert headers.content == b""
        assert headers.headers["content-length"] == str(len(shown.content))
        assert "HEAD" in (await scene.ask("PUT", path)).headers["allow"]


# --- nothing of a body is read before its head has been judged

HUGE = "Content-Length: 67108864"
FAULTS: dict[str, tuple[int, list[str]]] = {
    "host": (421, ["Host: evil.test", HUGE]),
    "path": (404, [HUGE]),
    "method": (405, [HUGE]),
    "origin": (403, ["Origin: http://evil.test", HUGE]),
    "no token": (401, [HUGE]),
    "wrong token": (401, ["Authorization: Bearer wrong", HUGE]),
    "type": (415, ["Content-Type: text/plain", HUGE]),
    "chunks": (411, ["Transfer-Encoding: chunked"]),
    "length": (413, [HUGE]),
    "length and chunks": (411, [HUGE, "Transfer-Encoding: chunked"]),
    "a body and more": (413, []),
}
"""What is wrong with a request, the status it is answered with, and its headers."""


def head(scene: Scene, method: str, path: str, fault: str) -> bytes:
    """A request with a fault and, but for that, with all it needs, which announces a body."""
    lines = list(FAULTS[fault][1])
    if fault == "a body and more":
        lines.append(f"Content-Length: {longest(method, path) + 1}")
    for needed in (
        f"Host: 127.0.0.1:{scene.port}",
        "Content-Type: application/json",
        *([] if fault == "no token" else [f"Authorization: Bearer {scene.token}"]),
    ):
        if not any(line.startswith(needed.partition(":")[0]) for line in lines):
            lines.append(needed)
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


def longest(method: str, path: str) -> int:
    """How many bytes a body may have."""
    lists = (method, path) == ("POST", f"{PREFIX}/proxies/import")
    return (8 if lists else 1) * 1024 * 1024


def faulty(fault: str) -> list[tuple[str, str]]:
    """Methods and paths that can have the fault."""
    served = [
        (str(method), re.sub(r"{\w+}", "x", path), operation)
        for path, methods in ROUTES.items()
        for method, operation in methods.items()
    ]
    pages = [("GET", "/"), ("GET", "/openapi.json"), ("GET", "/static/style.css")]
    match fault:
        case "path":
            return [("POST", "/nowhere"), ("GET", f"{PREFIX}/nowhere"), ("POST", "*")]
        case "method":
            status = f"{PREFIX}/status"
            return [("POST", "/"), ("PUT", "/openapi.json"), ("POST", LIVE), ("QUERY", status)]
        case "origin":
            return [(method, path) for method, path, _ in served if method != "GET"]
        case "wrong token":  # after more of them the answer is 429
            return [("POST", f"{PREFIX}/proxies"), ("GET", LIVE), ("DELETE", "/api/v1/session")]
        case "no token":
            return [(method, path) for method, path, one in served if one.access == "session"]
        case "type":
            return [(method, path) for method, path, one in served if one.body is not None]
    return [(method, path) for method, path, _ in served] + pages


@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_of_a_head_is_answered_and_its_body_never_waited_for(
    tmp_path: Path, fault: str
) -> None:
    async with serving(tmp_path, registry="") as scene:
        for method, path in faulty(fault):
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            async with asyncio.timeout(10):
                writer.write(head(scene, method, path, fault))
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 %d " % FAULTS[fault][0]), (method, path, answer)
            assert b'"code":' in answer
            writer.close()


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("POST", LIVE), ("POST", "/nowhere")])
async def test_peer_that_sends_on_sees_its_answer_and_is_cut(
    tmp_path: Path, method: str, path: str
) -> None:
    async with serving(tmp_path, registry="") as scene:
        loop, sent = asyncio.get_running_loop(), 0

        async def send(peer: socket.socket) -> None:
            nonlocal sent
            with contextlib.suppress(OSError):
                for _ in range(1024):
                    await loop.sock_sendall(peer, b"x" * 65536)
                    sent += 65536

        with socket.create_connection(("127.0.0.1", scene.port)) as peer:
            peer.setblocking(False)
            await loop.sock_sendall(peer, head(scene, method, path, "length"))
            sending = asyncio.create_task(send(peer))
            assert (await loop.sock_recv(peer, 12)).startswith(b"HTTP/1.1 40")
            async with asyncio.timeout(20):
                await sending
        assert sent < 32 * 1024 * 1024  # of 64 MiB: what the system holds, and little more


@pytest.mark.parametrize(("fault", "status"), [("host", b"421"), ("chunks", b"411")])
async def test_chunks_of_one_byte_are_not_read_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, status: bytes
) -> None:
    """Whoever sends them, without a token and a host or with both."""
    for name in ("LINGER", "LINGER_KNOWN"):
        monkeypatch.setattr(f"egress_policy.api.listener.{name}", (0.3, 256 * 1024))
    receives, receive = 0, ClientConnection.receive

    async def counted(connection: ClientConnection) -> bytes:
        nonlocal receives
        receives += 1
        return await receive(connection)

    monkeypatch.setattr(ClientConnection, "receive", counted)
    async with serving(tmp_path, registry="") as scene:
        loop = asyncio.get_running_loop()
        start = head(scene, "POST", f"{PREFIX}/proxies", fault)
        start = start.replace(HUGE.encode(), b"Transfer-Encoding: chunked")
        with socket.create_connection(("127.0.0.1", scene.port)) as peer:
            peer.setblocking(False)
            crumbs = asyncio.create_task(loop.sock_sendall(peer, start + b"1\r\nx\r\n" * 30_000))
            assert (await loop.sock_recv(peer, 1000)).startswith(b"HTTP/1.1 " + status)
            while scene.server.connections:
                await asyncio.sleep(0.01)
            crumbs.cancel()
    assert receives < 40  # for 30,000 chunks


async def test_listener_holds_so_many_connections_and_answers_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene, contextlib.AsyncExitStack() as stack:
        for _ in range(2 * OPEN):
            _, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            stack.callback(writer.close)
            writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
            assert scene.server.connections <= OPEN
        assert (await scene.ask("GET", "/status")).status_code == 200
        assert scene.server.connections <= OPEN


async def test_watchers_that_never_read_are_bounded_and_do_no_harm(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene, contextlib.AsyncExitStack() as stack:
        for number in range(VIEWS + 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            stack.callback(writer.close)
            writer.write(head(scene, "GET", LIVE, "length").replace(HUGE.encode(), b"X: y"))
            line = await reader.readline()
            assert line.startswith(b"HTTP/1.1 200" if number < VIEWS else b"HTTP/1.1 429")
        scene.management.live.publish(event())
        assert (await scene.ask("GET", "/status")).status_code == 200


async def test_lost_database_is_reported_and_nothing_is_lost(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        await scene.make()
        (tmp_path / "egress.db").rename(tmp_path / "aside.db")
        answer = await scene.ask("POST", "/rules", json={"use": "one"})
        assert (answer.status_code, answer.json()["code"]) == (503, "REGISTRY_UNAVAILABLE")
        assert answer.headers["Retry-After"] == "5"
        assert (await scene.ask("GET", "/proxies")).json()["page"]["total"] == 1


async def test_unexpected_error_is_logged_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as scene:
        monkeypatch.setattr(scene.management, "status", lambda: 1 / 0)
        answer = await scene.ask("GET", "/status")
        assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
        assert "division" not in answer.text
        assert "division" in caplog.text


# --- who is let in


@pytest.mark.parametrize("route", ROUTES)
async def test_nothing_is_answered_to_strangers(tmp_path: Path, route: str) -> None:
    async with serving(tmp_path, registry="") as scene:
        for method, operation in ROUTES[route].items():
            path = re.sub(r"{\w+}", "x", route)
            answer = await scene.stranger.request(method, path, headers=JSON, content="{}")
            if operation.access == "session":
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            else:
                assert answer.status_code in (200, 400)
        assert (await scene.stranger.get(LIVE)).status_code == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
async def test_names_of_loopback_are_served(tmp_path: Path, host: str) -> None:
    async with serving(tmp_path, registry="") as scene:
        headers = {"Host": f"{host}:{scene.port}", "Origin": f"http://{host}:{scene.port}"}
        answer = await scene.ask("POST", "/explain", json={"url": "http://x/"}, headers=headers)
        assert answer.status_code == 200
        other = {"Host": host}
        assert (await scene.ask("GET", "/status", headers=other)).status_code == 421


@pytest.mark.parametrize(
    ("listen", "host", "status"),
    [
        ("0.0.0.0:0", "192.0.2.5:{}", 200),
        ("0.0.0.0:0", "[2001:db8::1]:{}", 200),
        ("0.0.0.0:0", "evil.test:{}", 421),
        ("0.0.0.0:0", "192.0.2.5:1{}", 421),
        ("127.0.0.1:0", "192.0.2.5:{}", 421),
    ],
)
async def test_addresses_are_served_where_it_listens_everywhere(
    tmp_path: Path, listen: str, host: str, status: int
) -> None:
    async with serving(tmp_path, listen, registry="") as scene:
        headers = {"Host": host.format(scene.port)}
        assert (await scene.ask("GET", "/status", headers=headers)).status_code == status


async def test_page_of_another_of_our_names_is_another_site(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        headers = {"Host": f"localhost:{scene.port}", "Origin": f"http://127.0.0.1:{scene.port}"}
        answer = await scene.ask("POST", "/explain", json={"url": "http://x/"}, headers=headers)
        assert answer.status_code == 403


async def test_page_session_by_token_and_by_link(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        page = scene.stranger
        assert (await page.get("/api/v1/session")).status_code == 401
        opened = await page.post("/api/v1/session", json={"token": scene.token})
        assert opened.status_code == 200
        cookie = opened.headers["set-cookie"]
        assert cookie.startswith(f"egress_session_{scene.port}=")
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        key = opened.json()["key"]
        assert key not in cookie
        for path in ("/api/v1/session", f"{PREFIX}/status", LIVE):
            assert (await page.get(path)).status_code == 401  # the cookie alone
        page.headers[KEY_HEADER] = key
        assert (await page.get("/api/v1/session")).json() == {"authenticated": True}
        async with page.stream("GET", LIVE) as stream:
            assert stream.status_code == 200
        assert (await page.get(f"{PREFIX}/status")).status_code == 200
        assert (await page.delete("/api/v1/session")).status_code == 204
        assert (await page.get("/api/v1/session")).status_code == 401
        link = scene.server.links.link()
        assert link.startswith(scene.server.url + "#")
        word = link.partition("#")[2]
        linked = await page.post("/api/v1/session", json={"link": word})
        page.headers[KEY_HEADER] = linked.json()["key"]
        assert (await page.get("/api/v1/session")).status_code == 200
        assert (await page.post("/api/v1/session", json={"link": word})).status_code == 401
        assert (await page.post("/api/v1/session", json={})).status_code == 400


async def test_wrong_tokens_have_to_wait_and_the_right_one_does_not(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        wrong = {"Authorization": "Bearer wrong"}
        codes = [(await scene.ask("GET", "/status", headers=wrong)).status_code for _ in range(9)]
        assert codes[0] == 401
        assert codes[-1] == 429
        answer = await scene.ask("GET", "/status", headers=wrong)
        assert int(answer.headers["retry-after"]) >= 1
        assert (await scene.ask("GET", "/status")).status_code == 200


async def test_no_answer_and_no_log_holds_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "egress_policy")
    async with serving(tmp_path) as scene:
        made = await scene.make(host="proxy.example", username="u", password=SECRET)
        inline = {"type": "http", "host": "192.0.2.1", "username": "u", "password": SECRET}
        answers = [
            await scene.ask("POST", "/rules", json={"use": inline}),
            await scene.ask("PATCH", "/proxies", json={"id": made["id"], "password": SECRET + "2"}),
            await scene.ask("POST", "/proxies", json={"name": "x", "host": f"u:{SECRET}@h"}),
            await scene.ask("POST", "/proxies/import", json={"text": f"h:x:u:{SECRET}"}),
            await scene.ask("POST", "/rules", json={"use": f"http://u:{SECRET}@h:1"}),
            await scene.ask("GET", f"/status?token={SECRET}"),
            *[
                await scene.ask("GET", path)
                for path in ("/proxies", "/rules", "/status", "/proxies/export")
            ],
            *[await scene.ask("GET", path) for path in ("/metrics", "/openapi.json", "/?")],
        ]
        for answer in answers:
            assert SECRET not in answer.text
            assert scene.token not in answer.text
    assert SECRET not in caplog.text
    assert scene.token not in caplog.text


# --- the file that leads a browser to a link


def file_of(page: LinkPage) -> Path:
    return Path(urlsplit(page.url).path)


async def test_file_with_a_link_goes_when_the_link_is_used(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        page, other = scene.server.links.page(), scene.server.links.page()
        word = page.link.removeprefix(f"{scene.server.url}#")
        assert word in file_of(page).read_text()
        opened = await scene.stranger.post("/api/v1/session", json={"link": word})
        assert opened.status_code == 200
        assert not file_of(page).parent.exists()
        assert file_of(other).exists()
    assert not file_of(other).parent.exists()  # with the listener


async def test_files_with_links_are_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        pages = [scene.server.links.page() for _ in range(LINKS + 1)]
        assert [file_of(page).exists() for page in pages] == [False] + [True] * LINKS
        await scene.stranger.post("/api/v1/session", json={"link": pages[-1].link.split("#")[1]})
        assert not file_of(pages[-1]).exists()


async def test_link_is_made_for_who_has_the_token(tmp_path: Path) -> None:
    async with serving(tmp_path, "0.0.0.0:0", registry="") as scene:
        assert (await scene.stranger.post(f"{PREFIX}/link", json={})).status_code == 401
        shown = (await scene.ask("POST", "/link", json={})).json()
        assert shown["file"] == ""
        page, _, word = shown["link"].partition("#")
        assert page == f"http://127.0.0.1:{scene.port}/"  # not 0.0.0.0, which is no place to go to
        opened = await scene.stranger.post("/api/v1/session", json={"link": word})
        assert opened.status_code == 200
        filed = (await scene.ask("POST", "/link", json={"file": True})).json()
        assert filed["link"] in Path(urlsplit(filed["file"]).path).read_text()


async def test_link_without_a_file_where_none_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, registry="") as scene:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
        made = (await scene.ask("POST", "/link", json={"file": True})).json()
        assert made["file"] == ""
        assert made["link"].startswith(scene.server.url)


async def test_file_with_a_link_goes_when_the_link_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress_policy.api.links.LINK_LIFE", 0)
    async with serving(tmp_path, registry="") as scene:
        page = scene.server.links.page()
        async with asyncio.timeout(10):
            while file_of(page).exists():
                await asyncio.sleep(0)


async def test_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(LinkPage, "lead_to", full)
    async with serving(tmp_path / "api", registry="") as scene:
        with pytest.raises(OSError):  # noqa: PT011 (as the system says it)
            scene.server.links.page()
        assert list(tmp_path.iterdir()) == [tmp_path / "api"]


# --- the live view


async def _events(scene: Scene, count: int, headers: dict[str, str] | None = None) -> list[str]:
    found: list[str] = []
    async with scene.client.stream("GET", LIVE, headers=headers or {}, timeout=10) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        async for line in stream.aiter_lines():
            if line == ": open":
                scene.management.live.publish(event(rule="later"))
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: "))["rule"])
            if len(found) == count:
                break
    return found


async def test_live_view_has_what_was_and_what_comes(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        scene.management.live.publish(event(rule="before"))
        scene.management.live.publish(event(rule="second"))
        assert await _events(scene, 3) == ["before", "second", "later"]
        assert await _events(scene, 2, {"Last-Event-ID": "2"}) == ["later", "later"]


async def test_live_view_ends_with_the_server(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, registry="") as scene,
        scene.client.stream("GET", LIVE, timeout=10) as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == ": open"
        scene.server.stop()
        async with asyncio.timeout(10):
            with contextlib.suppress(httpx.RemoteProtocolError):  # cut in the midst of it
                _ = [line async for line in lines]


# --- description, health, life cycle


async def test_description_has_every_route_and_no_other(tmp_path: Path) -> None:
    described = json.loads(document())["paths"]
    served = {path: {name.lower() for name in methods} for path, methods in ROUTES.items()}
    assert {path: set(of) for path, of in described.items()} == {**served, LIVE: {"get"}}
    names = [one["operationId"] for of in described.values() for one in of.values()]
    assert len(names) == len(set(names))
    text = document().decode()
    for reference in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert reference in json.loads(text)["components"]["schemas"]


async def test_health_is_for_anybody_and_says_only_that(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        assert (await scene.stranger.get("/healthz")).json() == {"status": "ok"}
        scene.management.in_force.refuse_all("something")
        answer = await scene.stranger.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "refusing"})


async def test_metrics_count_flows(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="") as scene:
        scene.management.live.publish(event())
        scene.management.live.publish(event(code="EGRESS_REFUSED", reason="rule"))
        text = (await scene.ask("GET", "/metrics")).text
        assert 'egress_refusals_total{code="EGRESS_REFUSED",reason="rule"} 1.0' in text
        for use in ("direct", "refuse"):
            assert f'egress_flows_total{{use="{use}"}} 1.0' in text


async def test_taken_port_is_reported_with_what_to_do(tmp_path: Path) -> None:
    async with serving(tmp_path / "a", registry="") as first:
        with pytest.raises(InvalidEntry, match="leave it empty"):
            async with serving(tmp_path / "b", f"127.0.0.1:{first.port}", registry=""):
                raise AssertionError


async def test_stopped_server_lets_go_of_its_port(tmp_path: Path) -> None:
    async with serving(tmp_path / "a", registry="") as first:
        port = first.port
        first.server.stop()
        first.server.stop()
    async with serving(tmp_path / "b", f"127.0.0.1:{port}", registry="") as second:
        assert (await second.ask("GET", "/status")).status_code == 200
