"""Where mitmproxy itself listens, which no flow may reach.

Every decision and every dial asks for it, and asking each socket for its address takes longer than
the rest of the check. mitmproxy starts and stops a listener once, and only while ``is_updating``
says so. So the addresses hold as long as the same listeners are there and no update runs.
"""

from collections.abc import Sequence
from typing import Any, Final

from mitmproxy import connection, ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_servers import ServerInstance

from ...model.host import url_host
from .named import find

_EXPLICIT: Final = (mode_specs.RegularMode, mode_specs.UpstreamMode)


class OwnListeners:
    """The places of mitmproxy's listeners and of mitmweb's page, as they are at each call."""

    def __init__(self) -> None:
        self._asked: tuple[ServerInstance[Any], ...] = ()
        self._found: list[connection.Address] = []

    def __call__(self) -> Sequence[connection.Address]:
        proxyserver = find(Proxyserver)
        places = self._of(proxyserver) if proxyserver else ()
        if "web_port" in ctx.options:
            return [*places, (ctx.options.web_host, ctx.options.web_port)]
        return places

    def _of(self, proxyserver: Proxyserver) -> Sequence[connection.Address]:
        servers = proxyserver.servers
        instances = tuple(servers)
        if servers.is_updating:
            self._asked = ()
            return proxyserver.listen_addrs()
        if not instances or instances != self._asked:
            self._found = proxyserver.listen_addrs()
            self._asked = instances
        return self._found


def proxy_places() -> tuple[str, ...]:
    """Where clients find mitmproxy as their HTTP proxy: ``host:port``, as it listens now."""
    proxyserver = find(Proxyserver)
    return tuple(
        f"{url_host(host)}:{port}"
        for server in (proxyserver.servers if proxyserver else ())
        if isinstance(server.mode, _EXPLICIT)
        for host, port, *_ in server.listen_addrs
    )
