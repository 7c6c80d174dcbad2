"""Which URLs a test asks for through a proxy. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from ..model.family_urls import FamilyUrls, echo_of
from ..model.proxy import ExitFamily, Proxy
from ..model.target_url import TargetUrl, parse_test_url

DEFAULTS: Final = FamilyUrls(ipv4="https://api.ipify.org/", ipv6="https://api6.ipify.org/")
"""What is asked where the registry has neither ``test_url`` nor an echo of the family. Each has
addresses of one family alone, and answers with the client's address."""
_BOTH: Final[tuple[ExitFamily, ...]] = ("ipv4", "ipv6")


def targets_of(proxy: Proxy, settings: Mapping[str, str]) -> tuple[TargetUrl, ...]:
    """The URLs to ask for, in order, until one answers: a person's ``test_url`` alone, or else one
    for each family in which the proxy may leave. Raises ``InvalidEntry`` for a ``test_url`` that
    was edited by hand."""
    if url := settings.get("test_url"):
        return (parse_test_url(url),)
    echo = echo_of(settings)
    texts = (
        getattr(echo, family, None) or getattr(DEFAULTS, family) for family in _families(proxy)
    )
    return tuple(map(parse_test_url, texts))


def _families(proxy: Proxy) -> Iterable[ExitFamily]:
    """What the proxy says of its exit; else both, that of its hop first."""
    if only := proxy.target_family or proxy.exit_family:
        return (only,)
    return _BOTH[::-1] if proxy.family == "ipv6" else _BOTH
