"""The settings of the registry, which are about the policy as a whole."""

from collections.abc import Callable, Mapping
from typing import Final, get_args

from sqlalchemy import Connection, delete, insert, select

from ..errors import InvalidEntry
from ..model.family_urls import FamilyUrls
from ..model.rule import Default
from ..model.target_url import parse_test_url
from ..sentence import Sentence
from .schema import settings
from .transaction import Transaction
from .validation import validate


def _require_default(value: object) -> str:
    if isinstance(value, str) and value in get_args(Default):
        return value
    raise InvalidEntry(Sentence("default_words", "default must be direct or refuse"), "default")


def _require_test_url(value: object) -> str:
    parse_test_url(value)
    return str(value)


def _require_echo(value: object) -> str:
    if not isinstance(value, Mapping):
        raise InvalidEntry(
            Sentence("echo_object", "echo: an object with ipv4 and ipv6 is expected"), "echo"
        )
    try:
        return validate(FamilyUrls, value).model_dump_json(exclude_none=True)
    except InvalidEntry as error:
        raise InvalidEntry(error.text, f"echo.{error.field}".rstrip(".")) from error


SETTINGS: Final[Mapping[str, Callable[[object], str]]] = {
    "default": _require_default,
    "test_url": _require_test_url,
    "echo": _require_echo,
}
"""Each setting, and what checks its value and makes a text of it. ``default`` is what a flow takes
that no rule matches, ``test_url`` what a test of a proxy requests through it, ``echo`` what answers
with the address that it sees, by family."""


def read_settings(connection: Connection) -> dict[str, str]:
    return {row.name: row.value for row in connection.execute(select(settings))}


class SettingsTable:
    def __init__(self, transaction: Transaction) -> None:
        self._connection = transaction.connection

    def put(self, changes: Mapping[str, object]) -> dict[str, str]:
        """Only the settings in ``changes`` are changed; ``None`` goes back to the option's value.
        Returns all of them."""
        checked = dict[str, str | None]()
        for name, value in changes.items():
            if name not in SETTINGS:
                raise InvalidEntry(
                    Sentence(
                        "setting_unknown", "unknown setting, use {known}", known=list(SETTINGS)
                    ),
                    name,
                )
            checked[name] = None if value is None else SETTINGS[name](value)
        for name, text in checked.items():
            self._connection.execute(delete(settings).where(settings.c.name == name))
            if text is not None:
                self._connection.execute(insert(settings), [{"name": name, "value": text}])
        return read_settings(self._connection)
