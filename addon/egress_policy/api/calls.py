"""Requests as operations see them, and their answers. No HTTP library here."""

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from ..errors import InvalidEntry
from ..management.management import Management
from ..sentence import Sentence
from .auth import Gate
from .links import OneTimeLinks
from .live_views import LiveViews
from .pacing import Pacing
from .problems import Problem

_ETAG: Final = re.compile(r'"([^"]*)"')


class Headers(Mapping[str, str]):
    """Header fields by name, in any case. A comma joins the values of a repeated field, or a
    semicolon for ``Cookie``."""

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._fields: dict[str, str] = {}
        for name, value in fields:
            key = name.lower()
            before = self._fields.get(key)
            between = "; " if key == "cookie" else ", "
            self._fields[key] = value if before is None else f"{before}{between}{value}"

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. ``path`` is raw, ``query`` is decoded."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Headers


@dataclass(frozen=True, slots=True)
class Call:
    """``query`` is an instance of the operation's model, ``body`` too or, for the fields of an
    entry, what the JSON object has. ``arguments`` are the parts of the path in braces."""

    management: Management
    gate: Gate
    links: OneTimeLinks
    live_views: LiveViews
    pacing: Pacing
    query: Any
    body: Any
    arguments: tuple[str, ...]
    headers: Mapping[str, str]
    peer: str

    @property
    def if_match(self) -> str | None:
        """The etag that the entry must still have, ``None`` for any. Raises ``InvalidEntry``."""
        value = self.headers.get("If-Match", "*").strip()
        if value == "*":
            return None
        if not (tag := _ETAG.fullmatch(value)):
            raise InvalidEntry(
                'If-Match: one strong entity tag such as "12" is expected', "If-Match"
            )
        return tag[1]


@dataclass(frozen=True, slots=True)
class Response:
    """``content`` is a view or plain value, answered as JSON; bytes, a text or a stream of bytes
    as ``type_``."""

    content: Any = None
    status: int = 200
    etag: str | None = None
    type_: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        if isinstance(self.content, str):
            return self.content.encode("utf-8", "surrogateescape")
        if self.content is None:
            return b""
        if isinstance(self.content, BaseModel):
            return self.content.model_dump_json().encode()
        return json.dumps(self.content).encode()


Stream = AsyncGenerator[bytes]
Run = Callable[[Call], Awaitable[Response]]


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises ``Problem`` 400 for anything else."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        why = Sentence("body_no_json", "The body is not JSON in UTF-8")
        raise Problem(400, "INVALID_JSON", why) from error
    if not isinstance(value, dict):
        raise Problem(
            400, "INVALID_JSON", Sentence("body_no_object", "The body must be a JSON object")
        )
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A duplicate key would override the first, which may be the pin."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem(
            400, "INVALID_JSON", Sentence("body_key_twice", "An object has the same key twice")
        )
    return found


def _no_constant(_: str) -> None:
    raise ValueError("JSON has no such number")
