"""A proxy as columns of a row, its password encrypted. Imports no database.

What is merely missing in a row has its default; what is unknown is an error, which never removes a
pin.
"""

import json
from typing import Any, Final

from pydantic_core import from_json

from ..errors import InvalidEntry
from ..model.family import ProxyFamily, require_proxy_family
from ..model.proxy import Proxy
from ..sentence import Sentence
from .records import Row
from .secrets import Cipher

HOP_FIELDS: Final = tuple(field for field in Proxy.model_fields if field != "password")
"""The fields of a proxy that are columns of the same name; ``exit_in`` and ``tags`` are JSON
lists there."""


def read_hop(row: Row, cipher: Cipher, table: str) -> dict[str, Any]:
    """The fields of ``Proxy`` that a row of ``table`` has, the password in clear.

    Raises ``InvalidEntry`` for a family or a password that cannot be read.
    """
    fields: dict[str, Any] = {
        key: value for key in HOP_FIELDS if (value := row.get(key)) is not None
    }
    for name in ("exit_in", "tags"):
        if name in fields:
            fields[name] = read_json(fields[name])
    if fields.get("exit_enforce") in (0, 1):  # SQLite has no booleans
        fields["exit_enforce"] = bool(fields["exit_enforce"])
    fields["family"] = stored_family(row.get("family"))
    sealed = row.get("password")
    sealed = None if sealed is None else str(sealed)
    fields["password"] = cipher.open(sealed, f"{table}/{row.get('id')}")
    return fields


def hop_columns(proxy: Proxy, cipher: Cipher, table: str, id_: str) -> dict[str, Any]:
    """The columns of a proxy. The password is bound to the row, and opens in no other."""
    columns = {field: getattr(proxy, field) for field in HOP_FIELDS}
    columns["exit_in"] = json.dumps([str(network) for network in proxy.exit_in])
    columns["tags"] = json.dumps(proxy.tags)
    sealed = cipher.seal(proxy.password.get_secret_value(), f"{table}/{id_}")
    return {**columns, "password": sealed}


def stored_family(value: object) -> ProxyFamily:
    """A missing one is auto; raises ``InvalidEntry`` for an unknown one."""
    try:
        return "auto" if value is None else require_proxy_family(value)
    except InvalidEntry as error:
        shown = repr(value)[:40]
        raise InvalidEntry(
            Sentence(
                "stored_family",
                "the stored family {family} is none of auto, ipv4 and ipv6",
                family=shown,
            ),
            "family",
        ) from error


def read_json(text: object) -> object:
    """What a JSON text stands for. Anything else is returned unchanged, for validation to
    reject."""
    try:
        return from_json(text) if isinstance(text, str) else text
    except ValueError:
        return text
