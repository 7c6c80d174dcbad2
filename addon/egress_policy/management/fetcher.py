"""Fetches a document for a person: through a named proxy, as its pin says, or directly where that
is what was said. What cannot be kept is an error; nothing goes another way.
"""

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from ..client.fetch import Fetched, FetchFailed, fetch
from ..client.stream import TlsOf
from ..model.decision import Choice, Egress, Refusal, Route
from ..model.host import url_host
from ..model.subscription import DIRECT, parse_list_url
from ..model.target_url import TargetUrl
from .in_force import PolicyInForce
from .prober import default_tls

LONGEST: Final = 8 << 20
"""Bytes of a document."""
SECONDS: Final = 60.0
"""For each answer."""
_REDIRECTS: Final = 3


@dataclass(frozen=True, slots=True)
class Fetcher:
    """``tls`` gives the settings for an https proxy or target and is called in a thread."""

    in_force: PolicyInForce
    tls: TlsOf = default_tls
    longest: int = LONGEST
    seconds: float = SECONDS

    async def fetch(self, url: str, via: str) -> bytes:
        """The document at ``url``, ``via`` the proxy of that name or ``direct``.

        Redirects are followed the same way, never from https to http. Raises ``FetchFailed`` and
        ``InvalidEntry``, which quote nothing of the URL but its host.
        """
        for _ in range(_REDIRECTS + 1):
            place = parse_list_url(url)
            found = await self._one(place, via)
            if not found.moved_to:
                return found.body
            url = self._next(place, found.moved_to)
        raise FetchFailed(f"The list cannot be had: it was redirected {_REDIRECTS + 1} times")

    async def _one(self, url: TargetUrl, via: str) -> Fetched:
        route = await self._route(url, via)
        if isinstance(route, Refusal):
            raise FetchFailed(route.detail)
        proxy = route.egress.proxy
        names = [proxy.host] * (proxy.type == "https") if proxy else []
        try:
            settings = {
                name: await asyncio.to_thread(self.tls, name)
                for name in [*names, *[url.host] * url.is_tls]
            }
        except (OSError, ValueError) as error:
            raise FetchFailed(f"TLS cannot be set up: {error}") from error
        return await fetch(route, url, settings.__getitem__, self.longest, self.seconds)

    async def _route(self, url: TargetUrl, via: str) -> Route | Refusal:
        router = self.in_force.router
        if via == DIRECT:
            return await router.prepare_direct(url.host, url.port)
        snapshot = router.snapshot
        proxy = snapshot.proxies.get(via)
        if proxy is None or (why := snapshot.why_unusable(via)):
            raise FetchFailed(
                f"Proxy {via!r} cannot be used: {why if proxy else 'there is none of that name'}"
            )
        egress = Egress(proxy, proxy.family, proxy.target_family)
        if refusal := router.standing.refusal(egress):
            return refusal
        return await router.prepare(Choice(egress), url.host, url.port, "tcp")

    @staticmethod
    def _next(place: TargetUrl, location: str) -> str:
        base = f"{place.scheme}://{url_host(place.host)}:{place.port}{place.path}"
        url = urljoin(base, location)
        if place.is_tls and not url.lower().startswith("https:"):
            raise FetchFailed("The list cannot be had: it was redirected from https to http")
        return url
