"""What one entry of a proxy list states: some fields of ``Proxy``, which has yet to check them.

How an entry is written is said in ``proxy_line.py`` and ``proxy_list.py``.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..errors import InvalidEntry
from .proxy import ProxyType
from .proxy_url import read_proxy_type

_NULLABLE: Final = frozenset({"target_family", "region", "notes"})


class ProxyEntry(Mapping[str, str | int]):
    """The fields that an entry states, under their names in ``Proxy``. Read-only.

    ``assumes_type`` says that the entry names no type, and has one by default.
    ``lacks_password`` says that the proxy has a password, which was left out of the list.
    ``repr`` shows no password.
    """

    def __init__(
        self,
        fields: Mapping[str, str | int],
        *,
        assumes_type: bool = False,
        lacks_password: bool = False,
    ) -> None:
        self._fields = dict(fields)
        self.assumes_type = assumes_type
        self.lacks_password = lacks_password

    def __getitem__(self, key: str) -> str | int:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        shown = {k: "**********" if k == "password" else v for k, v in self._fields.items()}
        return f"{type(self).__name__}({shown})"


def load_json(text: str) -> object:
    """What JSON says. Raises ``InvalidEntry`` for what is none, and for a key that stands twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidEntry(f"This is no JSON: {error.msg} in {where}") from error
    except InvalidEntry:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidEntry("This is no JSON: a number is too long, or it nests too deep") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidEntry("This is no JSON with one meaning: a key stands twice in an object")
    return found


def read_object(item: object, default_type: ProxyType | None = None) -> ProxyEntry:
    """An entry from the fields of ``Proxy`` as JSON has them.

    A password of ``{"set": true}``, as the API shows it, is one that was left out. A type is read
    as in lines and rows, and one that is none is left to ``Proxy``. Without a type and a
    ``default_type`` the entry has none, and ``Proxy`` its own default. Raises ``InvalidEntry``.
    """
    if not isinstance(item, Mapping):
        raise InvalidEntry("an object with the fields of a proxy is expected")
    stated: dict[str, Any] = {
        str(key): value for key, value in item.items() if value is not None or key not in _NULLABLE
    }
    password = stated.get("password")
    if password in ({"set": True}, {"set": False}):
        del stated["password"]
    for key, value in stated.items():
        if not isinstance(value, str | int):
            raise InvalidEntry(f"{key}: a text or a number is expected", key)
    assumes_type = "type" not in stated
    if isinstance(type_ := stated.get("type"), str):
        stated["type"] = read_proxy_type(type_) or type_
    if assumes_type and default_type:
        stated["type"] = default_type
    return ProxyEntry(stated, assumes_type=assumes_type, lacks_password=password == {"set": True})
