"""The policy stands in a mitmproxy once: two of them would decide about the same flows.

mitmproxy rejects the second of two addons with one name before any hook of it runs, in words that
do not tell what to do. ``EgressOnce`` comes first among the addons and says it better.
"""

from mitmproxy import ctx
from mitmproxy.exceptions import AddonManagerError

from .config import EgressConfig
from .named import Named, find

TWICE = (
    "The egress policy is in this mitmproxy already, and stays in force as it was loaded first. "
    "Load it once: by one -s, or by default_addons()."
)


class EgressOnce(Named):
    """Belongs to ``config``. Has no hooks: what counts is that mitmproxy asks for its name."""

    def __init__(self, config: EgressConfig) -> None:
        self._config = config

    @property
    def name(self) -> str:
        """Raises ``AddonManagerError`` beside the addons of another ``default_addons()``."""
        if loaded() not in (None, self._config):
            raise AddonManagerError(TWICE)
        return super().name


def loaded() -> object | None:
    """The policy that the running mitmproxy has already."""
    master = getattr(ctx, "master", None)
    return find(EgressConfig) if master else None
