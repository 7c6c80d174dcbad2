"""A request as the operations see it, and an answer as they give it. No tornado here."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from ..management.management import Management
from .auth import Gate
from .problems import Problem, invalid

_ETAG: Final = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """``query`` is an instance of the operation's model, ``body`` too or, for the fields of an
    entry, what the JSON object has. ``arguments`` are the parts of the path in braces."""

    management: Management
    gate: Gate
    query: Any
    body: Any
    arguments: tuple[str, ...]
    headers: Mapping[str, str]
    peer: str

    @property
    def if_match(self) -> str | None:
        """The etag that the entry must still have; ``None`` for any. Raises ``InvalidEntry``."""
        stated = self.headers.get("If-Match", "*").strip()
        if stated == "*":
            return None
        if not (tag := _ETAG.fullmatch(stated)):
            raise invalid('If-Match: one strong entity tag such as "12" is expected', "If-Match")
        return tag[1]


@dataclass(frozen=True, slots=True)
class Answer:
    """``content`` is a view or plain value, answered as JSON; bytes or a text as ``type_``."""

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


Run = Callable[[Call], Awaitable[Answer]]


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises ``Problem`` 400 for anything else."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "INVALID_JSON", "The body is not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise Problem(400, "INVALID_JSON", "The body must be a JSON object")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that stands twice one would be ignored, and that may be the pin."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem(400, "INVALID_JSON", "A key stands twice in an object")
    return found


def _no_constant(_: str) -> None:
    raise ValueError("JSON has no such number")
