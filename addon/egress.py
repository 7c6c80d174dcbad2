"""The script for ``mitmdump -s``: decides for every flow by which egress it leaves, or refuses it.

Stands alone beside the package because mitmproxy puts a script's folder on ``sys.path``, which is
also how the package is found in a checkout.
"""

import logging
import sys

from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.version import VERSION


class RefuseAll:
    """What is left where the policy cannot be loaded: mitmproxy may already listen."""

    def server_connect(self, data: ServerConnectionHookData) -> None:
        data.server.error = "egress: the policy could not be loaded (fail-closed)"


logger = logging.getLogger(__name__)

try:
    from egress_policy import default_addons
    from egress_policy.proxy.addons.once import TWICE, loaded

    addons = default_addons()
    if loaded():
        logger.error(TWICE)
        addons = []
except (ImportError, SyntaxError) as error:  # an older Python cannot even read the package
    # An ERROR before mitmproxy runs ends it: without the policy nothing may leave.
    logger.error(  # noqa: TRY400 (what to do is more use than a traceback)
        f"The egress policy cannot start: {error}. It needs mitmproxy 12.2 or later (this is "
        f"{VERSION}) and Python 3.12 or later (this is {sys.version.split()[0]}) with dnspython "
        f"and pydantic: {sys.executable} -m pip install dnspython 'pydantic>=2.11'"
    )
    addons = [RefuseAll()]
