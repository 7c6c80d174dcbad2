"""Routes as data: who may ask, what an operation takes and what it answers.

``resources/`` has the operations; the server and ``/openapi.json`` are both made from them.
"""

from collections.abc import Callable, Mapping
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


class Routes(dict[str, dict[Method, Operation]]):
    """Operations by path and method."""

    def add(self, method: Method, path: str, *answers: Any, **more: Any) -> Callable[[Run], Run]:
        """Serve a function there: its name is the operation's ``id``, its docstring the summary.
        ``answers`` are the answer of status 200, or pairs of status and answer; ``more`` are the
        other fields."""

        def serve(run: Run) -> Run:
            summary = " ".join((run.__doc__ or "").split()).removesuffix(".")
            pairs = [one if isinstance(one, tuple) else (200, one) for one in answers]
            operation = Operation(run.__name__, summary, run, dict(pairs), **more)
            self.setdefault(path, {})[method] = operation
            return run

        return serve


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
