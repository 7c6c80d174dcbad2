"""One document by a route, whole or not at all.

Nothing that is said about a failure quotes the URL behind its host: it may hold a token.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from ..errors import EgressError
from ..model.decision import Route
from ..model.target_url import TargetUrl
from ..policy.hop import is_forwarded
from ..wire.redact import Redactor
from .dial import Refused, dial
from .exchange import HttpExchange, HttpRequest, NoHttpAnswer
from .probe import STANDARD, ProbeLimits
from .stream import SocketStream, Stream, TlsOf, TlsStream
from .tunnel import open_tunnel, start_tls

_HEADERS: Final = (
    ("user-agent", "egress-policy"),
    ("accept", "text/plain, application/yaml, text/csv, application/json, */*;q=0.1"),
    ("accept-encoding", "identity"),
)
_MOVED: Final = frozenset({301, 302, 303, 307, 308})


class FetchFailed(EgressError):
    """There is no document. ``str()`` is a sentence for people."""

    code = "FETCH_FAILED"
    status = 502


@dataclass(frozen=True, slots=True)
class Fetched:
    """``body`` is whole. ``moved_to`` is empty unless the document is somewhere else."""

    body: bytes = b""
    moved_to: str = ""


async def fetch(
    route: Route,
    url: TargetUrl,
    tls: TlsOf,
    longest: int,
    seconds: float,
    limits: ProbeLimits = STANDARD,
) -> Fetched:
    """Ask for ``url`` by ``route``, which may be direct, in ``seconds`` at most.

    Raises ``FetchFailed`` for whatever keeps the document away, also where it has more than
    ``longest`` bytes, is compressed, or may be incomplete.
    """
    try:
        async with asyncio.timeout(seconds):
            with await dial(route, limits.address, limits.connect) as sock:
                return await _ask(route, url, SocketStream(sock), tls, longest, limits)
    except Refused as error:
        raise FetchFailed(str(error)) from error
    except NoHttpAnswer as error:
        raise FetchFailed(f"The list cannot be read: {_clean(route, url, str(error))}") from error
    except TimeoutError as error:
        raise FetchFailed(f"The list did not come within {seconds:g} s") from error


async def _ask(
    route: Route, url: TargetUrl, stream: Stream, tls: TlsOf, longest: int, limits: ProbeLimits
) -> Fetched:
    egress = route.egress
    forwarder = None
    if egress.proxy:
        forwards = is_forwarded(egress, url.scheme, url.host, path=url.path)
        forwarder = egress.proxy if forwards else None
        stream = await open_tunnel(route, stream, tls, forwards, limits.handshake)
    if url.is_tls:
        stream = await start_tls(route, TlsStream(stream, tls, url.host), "the target")
    exchange = HttpExchange(stream, forwarder)
    answer = await exchange.ask(HttpRequest(url, headers=_HEADERS))
    head = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    if answer.status_code in _MOVED and head.get("location"):
        return Fetched(moved_to=head["location"])
    if answer.status_code != 200:
        raise FetchFailed(f"The list cannot be had: {url.host} answered {answer.status_code}")
    if head.get("content-encoding", "identity").lower() != "identity":
        raise FetchFailed("The list cannot be read: it came compressed, which was not asked for")
    if "content-length" not in head and "transfer-encoding" not in head:
        raise FetchFailed(
            "The list cannot be trusted to be whole: its server does not say how long it is"
        )
    return Fetched(await exchange.whole(longest))


def _clean(route: Route, url: TargetUrl, text: str) -> str:
    """What was said, without the account of the proxy and without the path."""
    if proxy := route.egress.proxy:
        text = Redactor(proxy.username, proxy.password.get_secret_value()).text(text)
    return text.replace(url.path, "…") if len(url.path) > 1 else text
