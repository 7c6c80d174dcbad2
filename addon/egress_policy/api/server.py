"""The management API: first the gate, then the operation that a request names.

The head of a request decides whether it is served: host, path, origin, method, token or session,
type and length of its body. The body of a refused request is never read. What is served is loaded
for the first request with a legal host.
"""

import functools
import os
import socket
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidEntry
from ..log import get_logger
from ..management.management import Management
from ..management.session_file import SessionFile
from ..management.token_file import load_token
from ..model.host import url_host
from ..model.settings import Listen
from ..sentence import Sentence
from .auth import Gate
from .calls import Call, Request, Response, parse_json
from .exchange import Exchange
from .first_use import FirstUse
from .links import OneTimeLinks
from .listener import ClientConnection, Listener
from .live_views import LiveViews
from .pacing import Pacing
from .problems import PROBLEM_JSON, Problem, problem_of
from .routes import Fields, Operation

if TYPE_CHECKING:
    from .served import Served

logger = get_logger(__name__)

SMALL_BODY_LIMIT: Final = 8 * 1024
"""Bytes of a known peer's body for an operation that takes one, and of any other body."""


class ApiServer:
    """Listens from ``start`` to ``stop``. ``folder`` keeps the page's sessions across restarts,
    where the listener has a port of its own.

    The constructor reads the token. It raises ``InvalidEntry`` if there is none, and ``start``
    raises it if nothing can listen.
    """

    def __init__(
        self,
        management: Management,
        listen: Listen,
        token_file: Path,
        folder: Path | None = None,
    ) -> None:
        self.management = management
        self._listen = listen
        self._session_file = (  # with port 0 the next run has another port, and another cookie
            folder / f"egress-sessions-{listen.port}" if folder and listen.port else None
        )
        self._token = load_token(token_file)
        self._live_views = LiveViews(management.live)
        self._pacing = Pacing()
        self._listener: Listener | None = None
        self.addresses: list[tuple[str, int]] = []
        """IP literals and ports."""

    @property
    def url(self) -> str:
        host, port = self.addresses[0]
        return f"http://{url_host(host)}:{port}/"

    @property
    def local_url(self) -> str:
        """The URL for programs on this machine: a listener on all addresses is on loopback too."""
        host, port = self.addresses[0]
        if ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
        return f"http://{url_host(host)}:{port}/"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._listener.open if self._listener else 0

    @property
    def is_listening(self) -> bool:
        return self._listener is not None

    def start(self, before: "ApiServer | None" = None) -> None:
        """Listen. ``before`` is a server at this place that will stop: its port stays open."""
        try:
            bound = (before and before.shared()) or _listening(self._listen)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise InvalidEntry(
                f"egress_listen: cannot listen at {self._listen}: {why}. Name another "
                "place, or leave it empty to run without management API and page",
                "egress_listen",
            ) from error
        address: tuple[str, int] = bound.getsockname()[:2]
        port, everywhere = address[1], ip_address(self._listen.host).is_unspecified
        self.addresses = [address]
        self._listen = Listen(*address)  # a restart listens here
        any_at = port if everywhere else None
        sessions = SessionFile(self._session_file) if self._session_file else None
        hosts = self._hosts(port)
        self.gate = Gate(self._token, port, hosts, time.monotonic, any_at, sessions)
        self.links = OneTimeLinks(self.gate, self.local_url)
        self._listener = Listener(bound, self._serve)
        load = functools.partial(_load_served, port)
        self._served = FirstUse("what it serves", load, self._listener.spared)
        self._listener.start()

    def stop(self) -> None:
        """Close the listener and all connections; safe to call again."""
        listener, self._listener, self.addresses = self._listener, None, []
        if listener:
            listener.stop()
            self.links.close()

    def shared(self) -> socket.socket | None:
        """The listening socket, for another server."""
        return self._listener.share() if self._listener else None

    def _hosts(self, port: int) -> set[str]:
        names = {"127.0.0.1", "localhost", "[::1]", url_host(self._listen.host)}
        hosts = {f"{name}:{port}" for name in names}
        return hosts | names if port == 80 else hosts

    # -- one request

    async def _serve(self, connection: ClientConnection) -> None:
        exchange = Exchange(connection)
        try:
            request = await exchange.read_head()
        except Problem as problem:
            await exchange.send(_problem_answer(problem))
            return
        answer = await self._answer(connection, exchange, request)
        logger.debug("%s %r: %s", request.method, request.path, answer.status)  # not the query
        await exchange.send(answer)

    async def _answer(
        self, connection: ClientConnection, exchange: Exchange, request: Request
    ) -> Response:
        try:
            operation, arguments = await self._admit(connection, request)
            body = await exchange.read_body()
        except Problem as problem:
            return _problem_answer(problem)
        try:
            call = self._call(operation, arguments, request, body, connection.peer)
            return await operation.run(call)
        except Exception as error:  # noqa: BLE001 (every one becomes an answer)
            return _problem_answer(error)

    async def _admit(
        self, connection: ClientConnection, request: Request
    ) -> tuple[Operation, tuple[str, ...]]:
        """The operation to run once the body has arrived, and its arguments. Raises ``Problem``."""
        gate, headers = self.gate, request.headers
        gate.require_host(headers.get("Host", ""))
        served = await self._served.get()
        methods, arguments = served.find(request.path)
        gate.require_same_origin(request.method, headers)
        if (operation := methods.get(request.method)) is None:
            allowed = {"Allow": ", ".join(methods)}
            why = Sentence("method_unserved", "This method is not served here")
            raise Problem(405, "METHOD_NOT_ALLOWED", why, allowed)
        if operation.access == "session":
            gate.require_access(headers, connection.peer)
            connection.welcome()
        _require_body_of(operation, headers)
        return operation, arguments

    def _call(
        self,
        operation: Operation,
        arguments: tuple[str, ...],
        request: Request,
        content: bytes,
        peer: str,
    ) -> Call:
        given: dict[str, str] = {}
        for name, value in request.query:
            if name in given:
                raise InvalidEntry(f"{name} is given twice", name)
            given[name] = value
        query = operation.query.model_validate(given)
        body: Any = None
        if operation.body is not None:
            body = parse_json(content)
            if not isinstance(operation.body, Fields):
                body = operation.body.model_validate(body)
        return Call(
            self.management,
            self.gate,
            self.links,
            self._live_views,
            self._pacing,
            query,
            body,
            arguments,
            request.headers,
            peer,
        )


def _load_served(port: int) -> "Served":
    # Only here: most runs of mitmproxy are never asked for anything.
    from .served import Served

    return Served(port)


def _require_body_of(operation: Operation, headers: Mapping[str, str]) -> None:
    """Raises ``Problem`` for a body of another type than JSON, of unknown length or too long."""
    takes_body = operation.body is not None
    if takes_body:
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            why = Sentence("json_expected", "application/json is expected")
            raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", why)
    if "Transfer-Encoding" in headers:
        why = Sentence("length_needed", "A body needs a Content-Length header")
        raise Problem(411, "LENGTH_REQUIRED", why)
    trusted = takes_body and operation.access == "session"
    limit = operation.longest_body if trusted else SMALL_BODY_LIMIT
    if int(headers.get("Content-Length", "0")) > limit:
        raise Problem(
            413,
            "TOO_LARGE",
            Sentence("body_limit", "Bodies of up to {limit} bytes are taken", limit=limit),
        )


def _problem_answer(error: Exception) -> Response:
    body, headers = problem_of(error)
    content = body.model_dump_json(exclude_none=True)
    return Response(content, body.status, type_=PROBLEM_JSON, headers=headers)


def _listening(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound = socket.create_server((listen.host, listen.port), family=family, backlog=128)
    bound.setblocking(False)
    return bound
