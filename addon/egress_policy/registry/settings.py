"""The settings of the registry: what it says about the policy as a whole."""

from collections.abc import Callable, Mapping
from typing import Final, get_args

from sqlalchemy import delete, insert

from ..errors import InvalidEntry
from ..model.rule import Default
from ..model.target_url import parse_test_url
from .change import Change
from .reading import read_settings
from .schema import settings


def _require_default(value: object) -> str:
    if isinstance(value, str) and value in get_args(Default):
        return value
    raise InvalidEntry("default must be direct or refuse", "default")


def _require_test_url(value: object) -> str:
    parse_test_url(value)
    return str(value)


SETTINGS: Final[Mapping[str, Callable[[object], str]]] = {
    "default": _require_default,
    "test_url": _require_test_url,
}
"""The names there are, and what checks a value. ``default`` is what a flow takes that no rule
matches, ``test_url`` what a test of a proxy asks for through it."""


class SettingsTable:
    def __init__(self, change: Change) -> None:
        self._change = change

    def put(self, changes: Mapping[str, object]) -> dict[str, str]:
        """Only the settings in ``changes`` are changed; ``None`` goes back to the option's value.
        Returns all of them."""
        connection, checked = self._change.connection, dict[str, str | None]()
        for name, value in changes.items():
            if name not in SETTINGS:
                raise InvalidEntry(f"unknown setting, use {', '.join(SETTINGS)}", name)
            checked[name] = None if value is None else SETTINGS[name](value)
        for name, text in checked.items():
            connection.execute(delete(settings).where(settings.c.name == name))
            if text is not None:
                connection.execute(insert(settings), [{"name": name, "value": text}])
        return read_settings(connection)
