"""The addons themselves: one hook class a module, hooks in the order mitmproxy fires them.

What takes no event of a flow is a ``Part`` of ``EgressConfig`` where it can be.
"""

from typing import Any

from mitmproxy import ctx

from ...collector import Collector, QuietCollector
from ...management.management import Management
from ..filters import compile_filter, request_for
from ..upstream_tls import upstream_tls
from .api import EgressApi
from .config import EgressConfig
from .console import EgressConsole
from .lines import EgressLines
from .listening import proxy_places
from .record import EgressRecorder
from .select import EgressSelect


def default_addons(*, owns_process: bool = False) -> list[Any]:
    """All of them, with their parts, over one policy, which refuses everything until it is
    configured."""
    collector = QuietCollector() if owns_process else Collector()
    management = Management(
        compile_filter, request_for, lambda name: upstream_tls(ctx.options, name), collector
    )
    management.proxy_places = proxy_places
    api = EgressApi(management)
    config = EgressConfig(management, api, owns_process=owns_process)
    console = EgressConsole(management, config, api)
    config.parts = (EgressLines(management), console)
    # mitmproxy waits for what ``done`` of an addon returns. So the API behind can still tell what
    # became of a change that the registry was making when it was ended.
    return [config, EgressSelect(management.router), EgressRecorder(management), api]
