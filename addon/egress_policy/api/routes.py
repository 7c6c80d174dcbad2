"""A route as data: who may ask, what it takes and what it answers.

``resources/`` has the routes; the server and ``/openapi.json`` are both made from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from .calls import Run
from .inputs import Input, Nothing

Access = Literal["session", "anybody"]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Fields:
    """A body with the fields of an entry, which the registry checks.

    With ``partial`` only those present change. ``beside`` are fields of the API's own.
    """

    model: type[BaseModel]
    partial: bool = False
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """``id`` is its name in ``/openapi.json``. ``answers`` are models or JSON schemas by status,
    ``errors`` the problems beside those that everything may answer."""

    id: str
    summary: str
    run: Run
    answers: Mapping[int, Any]
    query: type[Input] = Nothing
    body: type[BaseModel] | Fields | None = None
    access: Access = "session"
    errors: tuple[int, ...] = ()
    media: tuple[str, ...] = ("application/json",)
    if_match: bool = False
    longest_body: int = 1 << 20
    """Bytes."""


@dataclass(frozen=True, slots=True)
class ApiRoute:
    path: str
    methods: Mapping[Method, Operation]


PREFIX: Final = "/api/v1/management"
WRITES: Final = (404, 409, 412, 503)
"""The problems that a change may answer."""
DONE: Final = {"success": True}
SUCCESS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"success": {"const": True}},
    "required": ["success"],
}
"""The schema of ``DONE``."""
