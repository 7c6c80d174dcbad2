"""The listener: tornado in the loop that is running, the gate before everything, one handler.

Nothing is answered before ``Gate`` has let the request in: host, origin, token. Bodies that are
not taken are read and dropped, so that their sender sees the answer.
"""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Awaitable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from tornado import httpserver, httputil, iostream, web

from ..errors import InvalidEntry
from ..log import get_logger
from ..management.management import Management
from ..model.host import url_host
from ..model.settings import Listen
from ..store.token_file import load_token
from .auth import Gate
from .calls import Answer, Call, parse_json
from .openapi import document
from .pages import PAGE_HEADERS, Page, load_pages, make_page
from .problems import PROBLEM_JSON, Problem, ProblemBody, problem_of
from .routes import LIVE, ROUTES, Fields, Operation, Route

logger = get_logger(__name__)

BODY_LIMIT: Final = 1024 * 1024
_DROP_LIMIT: Final = 64 * BODY_LIMIT
"""Bytes of a body that are taken, and that are read at all."""
KEEP_ALIVE: Final = 15.0
"""Seconds between comments that keep a live view open."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ApiServer:
    """Listens from ``start`` to ``stop``.

    Making it reads the token; raises ``InvalidEntry``, as ``start`` does where nothing can listen.
    """

    def __init__(self, management: Management, listen: Listen, token_file: Path) -> None:
        self.management = management
        self._listen = listen
        self._token = load_token(token_file)
        self._sockets: list[socket.socket] = []
        self._server: httpserver.HTTPServer | None = None
        self._streams: set[asyncio.Task[Any]] = set()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """IP literals and ports."""
        return [one.getsockname()[:2] for one in self._sockets]

    @property
    def url(self) -> str:
        host, port = self.addresses[0]
        return f"http://{url_host(host)}:{port}/"

    @property
    def is_listening(self) -> bool:
        return bool(self._sockets)

    def start(self, before: "ApiServer | None" = None) -> None:
        """``before`` listens at the same place and is to be stopped: its port goes on."""
        try:
            self._sockets = (before.shared() if before else []) or [_bind(self._listen)]
        except OSError as error:
            raise InvalidEntry(
                f"egress_listen: cannot listen at {self._listen}: {error.strerror}. State another "
                "place, or leave it empty to do without management API and page",
                "egress_listen",
            ) from error
        self._listen = Listen(*self.addresses[0])  # where it is started again
        everywhere = ip_address(self._listen.host).is_unspecified
        any_at = self.addresses[0][1] if everywhere else None
        self.gate = Gate(self._token, self._hosts(), time.monotonic, any_at)
        application = web.Application(
            [
                *(
                    (_pattern(route.path), _Endpoint, {"api": self, "route": route})
                    for route in ROUTES
                ),
                (LIVE, _Live, {"api": self}),
                (r"/.*", _Pages, {"api": self, "pages": _pages()}),
            ],
            log_function=_log,
        )
        self._server = httpserver.HTTPServer(
            application, max_body_size=_DROP_LIMIT, idle_connection_timeout=60
        )
        self._server.add_sockets(self._sockets)

    def stop(self) -> None:
        """Close the listener and what is open; safe to call again."""
        for stream in tuple(self._streams):
            stream.cancel()
        server, self._server, self._sockets = self._server, None, []
        if server:
            server.stop()
            task = asyncio.get_running_loop().create_task(
                server.close_all_connections(), name="egress API close"
            )
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)

    def shared(self) -> list[socket.socket]:
        """Its sockets, for another server too."""
        return [one.dup() for one in self._sockets]

    def one_time_link(self) -> str:
        """A link to the page that opens a session once; its word is in the fragment, which
        browsers do not send."""
        return f"{self.url}#{self.gate.make_link()}"

    async def streaming(self, work: Awaitable[None]) -> None:
        """Run a live view until it, the client or the server ends."""
        task = asyncio.ensure_future(work)
        self._streams.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError, iostream.StreamClosedError):
                await task
        finally:
            task.cancel()
            self._streams.discard(task)

    def _hosts(self) -> set[str]:
        names = {"127.0.0.1", "localhost", "[::1]", url_host(self._listen.host)}
        port = self.addresses[0][1]
        hosts = {f"{name}:{port}" for name in names}
        return hosts | names if port == 80 else hosts


class _Handler(web.RequestHandler):
    """What all have in common: headers, and problems as answers."""

    api: ApiServer

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def send_problem(self, error: Exception) -> None:
        body, headers = problem_of(error)
        self._send_problem_body(body, headers)

    def write_error(self, status_code: int, **_: Any) -> None:
        """For what tornado itself finds wrong, such as a method that nobody knows."""
        code = "METHOD_NOT_ALLOWED" if status_code == 405 else "INVALID_REQUEST"
        body, headers = problem_of(Problem(status_code, code, "This request cannot be served"))
        self._send_problem_body(body, headers)

    def _send_problem_body(self, body: ProblemBody, headers: dict[str, str]) -> None:
        self.set_status(body.status)
        for name, value in headers.items():
            self.set_header(name, value)
        self.set_header("Content-Type", PROBLEM_JSON)
        self.finish(body.model_dump_json(exclude_none=True))

    def compute_etag(self) -> None:
        """Entries have etags of their own."""


@web.stream_request_body
class _Endpoint(_Handler):
    def initialize(self, api: ApiServer, route: Route) -> None:
        self.api, self.route = api, route
        self._problem: Exception | None = None
        self._body = bytearray()

    def prepare(self) -> None:
        try:
            self.operation = self._admit()
        except Exception as error:  # noqa: BLE001 (answered when the body has been read)
            self._problem = error

    def data_received(self, chunk: bytes) -> None:
        if self._problem is not None:
            return
        self._body += chunk
        if len(self._body) > BODY_LIMIT:
            self._problem = _too_large()

    async def answer(self, *arguments: str) -> None:
        if self._problem is not None:
            self.send_problem(self._problem)
            return
        try:
            answer = await self.operation.run(self._call(arguments))
        except Exception as error:  # noqa: BLE001 (every one becomes an answer)
            self.send_problem(error)
        else:
            self._send(answer)

    get = post = put = patch = delete = head = options = answer

    def _admit(self) -> Operation:
        request = self.request
        gate, method = self.api.gate, request.method or ""
        gate.require_host(request.headers.get("Host", ""))
        gate.require_same_origin(method, request.headers)
        methods = {str(name): operation for name, operation in self.route.methods.items()}
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]
        if (operation := methods.get(method)) is None:
            allowed = {"Allow": ", ".join(methods)}
            raise Problem(405, "METHOD_NOT_ALLOWED", f"{method} is not served here", allowed)
        if operation.access == "session":
            gate.require_access(request.headers, str(request.remote_ip))
        if operation.body is not None:
            kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "application/json is expected")
        length = request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > BODY_LIMIT:
            raise _too_large()
        return operation

    def _call(self, arguments: tuple[str, ...]) -> Call:
        operation, request = self.operation, self.request
        stated = {}
        for name in request.query_arguments:
            values = self.get_query_arguments(name, strip=False)
            if len(values) > 1:
                raise InvalidEntry(f"{name}: stated twice", name)
            stated[name] = values[0]
        query = operation.query.model_validate(stated)
        body: Any = None
        if operation.body is not None:
            body = parse_json(bytes(self._body))
            if not isinstance(operation.body, Fields):
                body = operation.body.model_validate(body)
        return Call(
            self.api.management,
            self.api.gate,
            query,
            body,
            arguments,
            request.headers,
            str(request.remote_ip),
        )

    def _send(self, answer: Answer) -> None:
        self.set_status(answer.status)
        content = answer.encoded()
        if content:
            self.set_header("Content-Type", answer.type_)
            self.write(content)
        else:
            self.clear_header("Content-Type")
        if answer.etag is not None:
            self.set_header("ETag", f'"{answer.etag}"')
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self.finish()


class _Live(_Handler):
    def initialize(self, api: ApiServer) -> None:
        self.api = api

    def prepare(self) -> None:
        try:
            self._admit()
        except Problem as problem:
            self.send_problem(problem)

    def _admit(self) -> None:
        request, gate = self.request, self.api.gate
        gate.require_host(request.headers.get("Host", ""))
        if request.method != "GET":
            allowed = {"Allow": "GET"}
            raise Problem(405, "METHOD_NOT_ALLOWED", "This can only be followed", allowed)
        gate.require_access(request.headers, str(request.remote_ip))

    async def get(self) -> None:
        request = self.request
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        last = request.headers.get("Last-Event-ID", "")
        await self.api.streaming(
            self._stream(int(last) if re.fullmatch(r"[0-9]{1,15}", last) else 0)
        )

    async def _stream(self, since: int) -> None:
        feed, lost = self.api.management.live, 0
        with feed.subscribe() as events:
            for event in feed.since(since):
                self.write(_event("flow", event.shown(), event.seq))
            self.write(": open\n\n")
            await self.flush()
            while True:
                waiting = asyncio.ensure_future(anext(events))
                try:
                    done, _ = await asyncio.wait([waiting], timeout=KEEP_ALIVE)
                finally:
                    if not waiting.done():
                        waiting.cancel()
                if not done:
                    self.write(": still here\n\n")
                else:
                    try:
                        event = waiting.result()
                    except StopAsyncIteration:
                        return
                    if events.lost > lost:
                        self.write(_event("lost", {"count": events.lost - lost}))
                        lost = events.lost
                    self.write(_event("flow", event.shown(), event.seq))
                await self.flush()


class _Pages(_Handler):
    """The page, its files and the API's description: for anybody, there is no secret in them."""

    def initialize(self, api: ApiServer, pages: dict[str, Page]) -> None:
        self.api, self.pages = api, pages

    def prepare(self) -> None:
        try:
            self._admit()
        except Problem as problem:
            self.send_problem(problem)

    def _admit(self) -> None:
        self.api.gate.require_host(self.request.headers.get("Host", ""))
        if self.request.path not in self.pages:
            raise Problem(404, "NOT_FOUND", "There is nothing here")
        if self.request.method not in ("GET", "HEAD"):
            allow = {"Allow": "GET, HEAD"}
            raise Problem(405, "METHOD_NOT_ALLOWED", "This can only be read", allow)

    def get(self) -> None:
        page = self.pages[self.request.path]
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Type", page.type_)
        self.set_header("ETag", page.etag)
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
        else:
            self.finish(page.content)

    head = get


def _bind(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind((listen.host, listen.port))
        bound.listen(128)
    except BaseException:
        bound.close()
        raise
    return bound


def _pages() -> dict[str, Page]:
    return {"/openapi.json": make_page(document(), ".json"), **load_pages()}


def _event(kind: str, data: dict[str, object], seq: int | None = None) -> str:
    text = json.dumps(data)
    return "".join((f"id: {seq}\n" if seq else "", f"event: {kind}\ndata: {text}\n\n"))


def _pattern(path: str) -> str:
    return re.sub(r"{\w+}", r"([^/]+)", path)


def _too_large() -> Problem:
    return Problem(413, "TOO_LARGE", f"Bodies of up to {BODY_LIMIT} bytes are taken")


def _log(handler: web.RequestHandler) -> None:
    """Without the query, in which somebody may put what is secret."""
    request: httputil.HTTPServerRequest = handler.request
    logger.debug("%s %s: %s", request.method, request.path, handler.get_status())
