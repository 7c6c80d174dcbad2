"""Fetches a document for a person: through a named proxy, as its pin says, or directly where that
is what was said. What cannot be kept is an error; nothing goes another way.
"""

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urljoin

from ..client.fetch import Fetched, FetchFailed, fetch
from ..client.stream import TlsOf
from ..errors import InvalidEntry
from ..model.decision import Choice, Egress, Refusal, Route
from ..model.host import canonical_ip, url_host
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

        Redirects are followed the same way: never from https to http, and never from the internet
        into the network of this machine. Raises ``FetchFailed`` and, for ``url``,
        ``InvalidEntry``, which quote nothing of a URL but its host.
        """
        place, before = parse_list_url(url), None
        origin = place
        for _ in range(_REDIRECTS + 1):
            route = await self._route(place, via)
            if isinstance(route, Refusal):
                raise FetchFailed(route.detail)
            if before and (leads_inside(before, route) or names_inside(origin, place)):
                raise FetchFailed("The list cannot be had: it was redirected into a local network")
            found = await self._one(place, route)
            if not found.moved_to:
                return found.body
            origin, place, before = place, self._next(place, found.moved_to), route
        raise FetchFailed(f"The list cannot be had: it was redirected {_REDIRECTS + 1} times")

    async def _one(self, url: TargetUrl, route: Route) -> Fetched:
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
    def _next(place: TargetUrl, location: str) -> TargetUrl:
        base = f"{place.scheme}://{url_host(place.host)}:{place.port}{place.path}"
        try:
            url = parse_list_url(urljoin(base, location))
        except ValueError as error:  # InvalidEntry is one
            why = str(error) if isinstance(error, InvalidEntry) else "Invalid URL"
            raise FetchFailed(
                f"The list cannot be had where it was redirected to: {why}"
            ) from error
        if place.is_tls and not url.is_tls:
            raise FetchFailed("The list cannot be had: it was redirected from https to http")
        return url


def leads_inside(before: Route, after: Route) -> bool:
    """Whether a direct route may lead into a local network, and the one before did not only lead
    there: what a server of the internet names there is not for it to reach. Its own name may have
    local addresses beside the one that answered."""
    if after.egress.proxy:
        return False
    return any(_are_global(before)) and not all(_are_global(after))


def names_inside(before: TargetUrl, after: TargetUrl) -> bool:
    """Whether a host is named by a local address, or as this machine, and the one before was not: a
    proxy, which resolves all other names, may stand in the same network."""
    return _is_named_local(after.host) and not _is_named_local(before.host)


def _is_named_local(host: str) -> bool:
    if canonical_ip(host):
        return not ip_address(host).is_global
    return host == "localhost" or host.endswith(".localhost")


def _are_global(route: Route) -> list[bool]:
    return [ip_address(address).is_global for address in route.pin.addresses]
