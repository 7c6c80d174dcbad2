"""The script for ``mitmdump -s``: decides which egress every flow takes, or refuses it.

It stands alone beside the package because mitmproxy puts a script's folder on ``sys.path``, which
is also how the package is found in a checkout.
"""

import logging
import sys
from typing import Any

from mitmproxy import ctx
from mitmproxy.version import VERSION

REFUSED = "egress: the policy could not be loaded (fail-closed)"


class RefuseAll:
    """Replaces a policy that cannot be loaded, because mitmproxy may already listen."""

    def client_connected(self, client: Any) -> None:
        client.error = REFUSED

    def server_connect(self, data: Any) -> None:
        data.server.error = REFUSED


logger = logging.getLogger(__name__)

try:
    from egress_policy import default_addons
    from egress_policy.proxy.addons.config import TWICE, loaded

    addons = default_addons(owns_process=True)
    if loaded():
        logger.error(TWICE)
        addons = []
except Exception as error:  # an older Python cannot even read the package
    # Not as an addon of this script, so that mitmproxy cannot unload it with the script.
    ctx.master.addons.chain.append(RefuseAll())
    addons = []
    # An ERROR before mitmproxy runs ends it, as nothing may leave without the policy.
    logger.error(  # noqa: TRY400 (advice is more useful than a traceback)
        f"The egress policy cannot start: {error!r}. It needs mitmproxy 12.2 or later (this is "
        f"{VERSION}) and Python 3.12 or later (this is {sys.version.split()[0]}) with "
        f"dnspython, pydantic and PyYAML: {sys.executable} -m pip install dnspython "
        "'pydantic>=2.11' PyYAML",
        exc_info=None if isinstance(error, (ImportError, SyntaxError)) else error,
    )
