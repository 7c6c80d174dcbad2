"""The script for ``mitmdump -s``: decides for every flow by which egress it leaves, or refuses it.

Stands alone beside the package because mitmproxy puts a script's folder on ``sys.path``, which is
also how the package is found in a checkout.
"""

import logging
import sys

try:
    from egress_policy import default_addons

    addons = default_addons()
except ImportError as error:
    # An ERROR before mitmproxy runs ends it: without the policy nothing may leave.
    logging.getLogger(__name__).error(  # noqa: TRY400 (what to do is more use than a traceback)
        f"The egress policy cannot start: {error}. It needs Python 3.12 or later with mitmproxy, "
        f"dnspython and pydantic: {sys.executable} -m pip install dnspython 'pydantic>=2.11'"
    )
    raise
