"""One entry of a proxy list: fields for ``Proxy``, which has not checked them yet.

``proxy_line.py`` and ``proxy_list.py`` describe how entries are written.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..errors import InvalidEntry
from ..sentence import Sentence
from .proxy import ProxyType
from .proxy_url import read_proxy_type

FieldValue = str | int | list[str]
"""What a field may be; ``exit_in`` and ``tags`` are lists."""

_NULLABLE: Final = frozenset({"target_family", "exit_family", "region", "notes"})
_NUMBERS: Final = frozenset({"port", "max_connections"})
_LONGEST_NUMBER: Final = 10
_LISTS: Final = frozenset({"exit_in", "tags"})
_FLAGS: Final = {"exit_enforce": {"true": True, "false": False}}


def field_from_text(field: str, text: str) -> FieldValue:
    """The value of a field that is written as text: spaces or commas separate the networks of
    ``exit_in`` and the tags. A text that is no such value is returned unchanged, for ``Proxy`` to
    reject."""
    if field in _LISTS:
        return text.replace(",", " ").split()
    if field in _NUMBERS and text.isascii() and text.isdecimal() and len(text) < _LONGEST_NUMBER:
        return int(text)
    return _FLAGS.get(field, {}).get(text.lower(), text)


class NotCarried(InvalidEntry):
    """An entry of a kind that has no counterpart here. A list that has some is none the worse."""


class ProxyEntry(Mapping[str, FieldValue]):
    """The fields of an entry, under their names in ``Proxy``. Read-only.

    ``assumes_type`` is true if the entry names no type and got a default. ``lacks_password`` is
    true if the proxy has a password that was left out of the list. ``remark`` says what a person
    should know of it, empty for nothing. ``repr`` hides the password.
    """

    def __init__(
        self,
        fields: Mapping[str, FieldValue],
        *,
        assumes_type: bool = False,
        lacks_password: bool = False,
        remark: str = "",
    ) -> None:
        self._fields = dict(fields)
        self.assumes_type = assumes_type
        self.lacks_password = lacks_password
        self.remark = remark

    def __getitem__(self, key: str) -> FieldValue:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        shown = {k: "**********" if k == "password" else v for k, v in self._fields.items()}
        return f"{type(self).__name__}({shown})"


def load_json(text: str) -> object:
    """Parse JSON. Raises ``InvalidEntry`` for other text and for an object with a duplicate key."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidEntry(
            Sentence("not_json", "This is not JSON: {why} in {where}", why=error.msg, where=where)
        ) from error
    except InvalidEntry:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidEntry(
            Sentence(
                "json_unusable", "This is not usable JSON: a number is too long, or nested too deep"
            )
        ) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidEntry(
            Sentence("json_key_twice", "This JSON is ambiguous: an object has the same key twice")
        )
    return found


def read_object(item: object, default_type: ProxyType | None = None) -> ProxyEntry:
    """An entry from a JSON object with the fields of ``Proxy``.

    A password of ``{"set": true}``, as the API shows it, was left out. Types are read as in lines
    and rows; an invalid type is left to ``Proxy``. An entry without a type gets ``default_type``;
    without that, ``Proxy`` applies its own default. Raises ``InvalidEntry``.
    """
    if not isinstance(item, Mapping):
        raise InvalidEntry(
            Sentence("proxy_object", "an object with the fields of a proxy is expected")
        )
    fields: dict[str, Any] = {
        str(key): value for key, value in item.items() if value is not None or key not in _NULLABLE
    }
    password = fields.get("password")
    if password in ({"set": True}, {"set": False}):
        del fields["password"]
    for key, value in fields.items():
        if key in _LISTS and isinstance(value, list) and all(isinstance(one, str) for one in value):
            continue
        if not isinstance(value, str | int):
            raise InvalidEntry(
                Sentence("text_or_number", "{field}: a text or a number is expected", field=key),
                key,
            )
    assumes_type = "type" not in fields
    if isinstance(type_ := fields.get("type"), str):
        fields["type"] = read_proxy_type(type_) or type_
    if assumes_type and default_type:
        fields["type"] = default_type
    return ProxyEntry(fields, assumes_type=assumes_type, lacks_password=password == {"set": True})
