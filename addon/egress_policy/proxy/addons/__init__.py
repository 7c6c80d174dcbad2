"""The addons themselves: one hook class a module, hooks in the order mitmproxy fires them."""

from typing import Any

from ...net.resolver import DnsResolver
from ...service import EgressService
from .config import EgressConfig, closed_snapshot
from .console import EgressConsole
from .record import EgressRecorder
from .select import EgressSelect


def default_addons() -> list[Any]:
    """All of them over one service that refuses everything until it is configured."""
    service = EgressService(closed_snapshot(), DnsResolver())
    config = EgressConfig(service)
    return [config, EgressSelect(service), EgressRecorder(service), EgressConsole(service, config)]
