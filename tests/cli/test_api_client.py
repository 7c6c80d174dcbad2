"""The client of a running mitmproxy: what it sends, and what it makes of each answer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from egress_policy.cli.api_client import ApiClient, NotAsked
from egress_policy.errors import (
    Conflict,
    EgressError,
    InUse,
    InvalidEntry,
    InvalidFields,
    NotFound,
    ReadOnly,
    RegistryError,
)
from egress_policy.management.pools import PoolView
from egress_policy.management.run_file import Run

POOL = {
    "id": "1",
    "source": "registry",
    "name": "homes",
    "strategy": "first",
    "sticky_by": "client",
    "sticky_minutes": 30,
}
USAGE = {"pools": [], "rules": [{"id": "2", "name": "#1"}], "assignments": []}


class Answers:
    """A server that gives every request the same answer, and keeps what came."""

    def __init__(self, status: int, body: str, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers = status, body, headers
        self.seen: list[tuple[str, str, str]] = []
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", 0))
                self.rfile.read(length)
                token = self.headers.get("authorization", "")
                answers.seen.append((self.command, self.path, token))
                self.send_response(answers.status)
                for name, value in answers.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answers.body.encode())

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 (the server looks for these)

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def client(self) -> ApiClient:
        return ApiClient(Run(url=self.url, pid=1), "secret-token", 5.0)


@contextmanager
def answers(status: int, body: Any, **headers: str) -> Iterator[Answers]:
    text = body if isinstance(body, str) else json.dumps(body)
    found = Answers(status, text, headers)
    thread = Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()


def problem(code: str, **rest: Any) -> dict[str, Any]:
    return {"code": code, "detail": "what is wrong", **rest}


def test_a_request_carries_the_token_and_what_is_asked() -> None:
    with answers(200, POOL) as server:
        found = server.client().view(PoolView, "GET", "/pools", id="a b", where_used="")
    assert found.name == "homes"
    assert server.seen == [("GET", "/api/v1/management/pools?id=a+b", "Bearer secret-token")]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, problem("UNAUTHENTICATED"), NotAsked),
        (404, problem("NOT_FOUND"), NotFound),
        (409, problem("READ_ONLY"), ReadOnly),
        (409, problem("IN_USE", usage=USAGE), InUse),
        (412, problem("CONFLICT"), Conflict),
        (400, problem("INVALID", errors=[{"field": "host", "message": "no"}]), InvalidEntry),
        (
            400,
            problem("INVALID", errors=[{"field": f, "message": "no"} for f in ("host", "port")]),
            InvalidFields,
        ),
        (503, problem("MAYBE_MADE"), RegistryError),
        (500, "<h1>broken</h1>", RegistryError),
        (200, "<h1>another program</h1>", NotAsked),
        (200, {"name": "of another version"}, NotAsked),
    ],
)
def test_each_answer_is_the_error_that_it_would_be_here(
    status: int, body: Any, expected: type[EgressError]
) -> None:
    with answers(status, body) as server, pytest.raises(EgressError) as caught:
        server.client().view(PoolView, "PATCH", "/pools", {"id": "1"})
    assert type(caught.value) is expected
    assert "secret-token" not in str(caught.value)
    if isinstance(body, dict) and status not in (200, 401):
        assert caught.value.code in (body["code"], "INVALID_ENTRY")
    if isinstance(caught.value, InUse):
        assert caught.value.usage.count == 1
    if isinstance(caught.value, InvalidEntry):
        assert caught.value.by_field[0][0] == "host"


def test_a_redirection_takes_the_token_nowhere() -> None:
    with (
        answers(200, POOL) as elsewhere,
        answers(302, "", Location=elsewhere.url) as server,
        pytest.raises(RegistryError, match="answers 302"),
    ):
        server.client().text("GET", "/pools")
    assert elsewhere.seen == []


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with answers(200, POOL) as proxy, answers(200, POOL) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        server.client().text("GET", "/pools")
    assert (len(server.seen), proxy.seen) == (1, [])


def test_a_place_where_nothing_listens_is_named() -> None:
    with answers(200, POOL) as server:
        client = server.client()
    with pytest.raises(NotAsked, match="does not answer"):
        client.text("GET", "/pools")
