"""The policy is loaded once per mitmproxy: two copies would both decide about the same flows.

mitmproxy rejects a second addon of the same name before any of its hooks run, with a message that
does not say what to do. ``EgressOnce`` is the first of the addons and gives a better message.
"""

from mitmproxy import ctx
from mitmproxy.exceptions import AddonManagerError

from .config import EgressConfig
from .named import Named, find

TWICE = (
    "The egress policy is already loaded in this mitmproxy, and the first copy stays in force. "
    "Load it once: by one -s, or by default_addons()."
)


class EgressOnce(Named):
    """Guards ``config``. Has no hooks; it acts when mitmproxy asks for its name."""

    def __init__(self, config: EgressConfig) -> None:
        self._config = config

    @property
    def name(self) -> str:
        """Raises ``AddonManagerError`` if another ``default_addons()`` is already loaded."""
        if loaded() not in (None, self._config):
            raise AddonManagerError(TWICE)
        return super().name


def loaded() -> object | None:
    """The policy that is already loaded in the running mitmproxy."""
    master = getattr(ctx, "master", None)
    return find(EgressConfig) if master else None
