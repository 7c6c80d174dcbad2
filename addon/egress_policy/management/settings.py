"""The registry's settings, which apply to the policy as a whole."""

from collections.abc import Mapping
from typing import Any

from ..model.family_urls import FamilyUrls, echo_of
from ..model.rule import Default
from .kind import Fields
from .upkeep import Upkeep
from .views import View


class SettingsView(View):
    """What the registry says about the policy as a whole; ``None`` where it says nothing. ``echo``
    has what answers with the address that it sees."""

    default: Default | None = None
    test_url: str | None = None
    echo: FamilyUrls | None = None


class PolicySettings:
    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep
        self._in_force = upkeep.in_force

    def show(self) -> SettingsView:
        return _view(self._in_force.stored.settings)

    async def change(self, changes: Fields) -> SettingsView:
        """Change only the settings in ``changes``; ``None`` clears a setting."""
        return _view(await self._upkeep.change(lambda edit: edit.settings.put(changes)))


def _view(settings: Mapping[str, str]) -> SettingsView:
    default = settings.get("default")
    known: Any = default if default in (None, "direct", "refuse") else "refuse"
    url, echo = settings.get("test_url"), echo_of(settings)
    return SettingsView(default=known, test_url=url, echo=echo)
