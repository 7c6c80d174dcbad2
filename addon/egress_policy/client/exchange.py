"""One HTTP/1.1 request over a stream, and its answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import h11

from ..model.host import url_host
from ..model.proxy import Proxy
from ..model.target_url import TargetUrl
from ..sentence import Sentence
from ..wire.http_connect import ConnectError, basic_credentials, begins_as_http
from .stream import Stream, error_text

Fields = tuple[tuple[str, str], ...]

_LONGEST_HEAD: Final = 65536
_AT_ONCE: Final = 64
"""Events after which others get their turn: a few bytes make one."""
_MOST_INTERIM: Final = 100
"""Interim answers before the final one."""
_BEGINNING: Final = 8
"""How many bytes tell a protocol."""
_WITH_CONTENT: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods that say how long their content is though it is empty, RFC 9110 section 8.6."""


class NoHttpAnswer(Exception):
    """There is no answer that can be read. ``str()`` is a clause that may quote the peer, ``text``
    the same as it was given: a ``Sentence`` keeps its code."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to ask for. ``headers`` hold neither ``Host`` nor what frames the message."""

    url: TargetUrl
    method: str = "GET"
    headers: Fields = ()
    body: bytes = b""


class HttpExchange:
    """Asks once over ``stream``, which leads to the target, or to ``forwarder``: a proxy that is
    asked in absolute form, with its credentials.

    ``on_first_byte`` is called when something of the answer has come.
    """

    def __init__(
        self,
        stream: Stream,
        forwarder: Proxy | None = None,
        on_first_byte: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream, self._forwarder = stream, forwarder
        self._on_first_byte = on_first_byte
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
        self._events = 0
        self._first: bytes | None = None
        """The beginning of the answer, as far as it is looked at; ``None`` before it has begun."""

    async def ask(self, request: HttpRequest) -> h11.Response:
        """Send the request and wait for the head of its final answer. Raises ``NoHttpAnswer``."""
        try:
            sent = self._http.send(self._head_of(request)) or b""
            sent += self._http.send(h11.Data(data=request.body)) or b"" if request.body else b""
            self._http.send(h11.EndOfMessage())
            await self._stream.send(sent)
            return await self._head()
        except ConnectError as error:
            raise NoHttpAnswer(error.text) from error
        except (OSError, h11.ProtocolError) as error:
            none = "no answer of HTTP came through it: {why}"
            why = error_text(error)
            raise NoHttpAnswer(Sentence("no_http_answer", none, why=why)) from error

    async def body(self, limit: int) -> bytes:
        """The body of the answer, or as much of it as there is in ``limit`` bytes of the stream.

        Raises ``NoHttpAnswer`` where it breaks off.
        """
        body, received = b"", 0
        try:
            while received < limit:
                event = await self._event()
                if isinstance(event, h11.Data):
                    body += event.data
                elif event is h11.NEED_DATA:
                    received += len(data := await self._stream.receive())
                    self._http.receive_data(data)
                else:
                    break
        except (OSError, h11.ProtocolError) as error:
            raise NoHttpAnswer(f"the answer broke off: {error_text(error)}") from error
        return body

    async def whole(self, longest: int) -> bytes:
        """The whole body of the answer. Raises ``NoHttpAnswer`` where it breaks off, and where it
        has more than ``longest`` bytes."""
        body = bytearray()
        try:
            while True:
                event = await self._event()
                if isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > longest:
                        raise NoHttpAnswer(f"it is longer than {longest:,} bytes")
                elif event is h11.NEED_DATA:
                    self._http.receive_data(await self._stream.receive())
                else:
                    return bytes(body)
        except (OSError, h11.ProtocolError) as error:
            raise NoHttpAnswer(f"the answer broke off: {error_text(error)}") from error

    def _head_of(self, request: HttpRequest) -> h11.Request:
        url, target = request.url, request.url.path
        headers = [("host", url.authority), *request.headers, ("connection", "close")]
        if request.body or request.method in _WITH_CONTENT:
            headers.append(("content-length", str(len(request.body))))
        if proxy := self._forwarder:
            target = f"http://{url_host(url.host)}:{url.port}{url.path}"
            account = proxy.username, proxy.password.get_secret_value()
            if any(account):
                headers.append(("proxy-authorization", basic_credentials(*account)))
        return h11.Request(method=request.method, target=target, headers=headers)

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        self._events += 1
        if self._events % _AT_ONCE == 0:
            await asyncio.sleep(0)
        return self._http.next_event()

    async def _head(self) -> h11.Response:
        interim = 0
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._more())
            elif not isinstance(event, h11.InformationalResponse):
                raise NoHttpAnswer(Sentence("no_answer", "what came through it is no answer"))
            elif (interim := interim + 1) > _MOST_INTERIM:
                said = "too many interim answers came through it"
                raise NoHttpAnswer(Sentence("too_many_interim", said))

    async def _more(self) -> bytes:
        data = await self._stream.receive()
        if not data:
            closed = "the connection was closed without an answer"
            raise NoHttpAnswer(Sentence("closed_unanswered", closed))
        if self._first is None:
            self._first = b""
            self._on_first_byte()
        if self._forwarder and len(self._first) < _BEGINNING:  # it is the proxy that answers
            self._first = (self._first + data).lstrip(b"\r\n")[:_BEGINNING]
            begins_as_http(self._first, "the request")
        return data
