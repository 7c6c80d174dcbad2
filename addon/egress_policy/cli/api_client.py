"""Requests to the management API of a running mitmproxy, and what its errors mean here.

The token goes only to the place that the run file names: no proxy of the environment is used and
no redirect is followed.
"""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

from pydantic import ValidationError

from ..errors import (
    Conflict,
    EgressError,
    InUse,
    InvalidEntry,
    InvalidFields,
    NotFound,
    ReadOnly,
    RegistryError,
    Usage,
)
from ..management.kind import Fields
from ..management.run_file import Run
from ..management.views import Page, Paged, PageInfo, View

_PREFIX: Final = "/api/v1/management"
PATIENCE: Final = 15.0
"""Seconds for an answer: a change is answered within ten."""
_PAGE: Final = 200
_GOOD: Final = (http.client.OK, http.client.CREATED)


class NotAsked(RegistryError):
    """Nothing answers there, or not to this token."""


class _FieldError(View):
    field: str
    message: str


class _Problem(View):
    """An error as the API answers it."""

    code: str
    detail: str
    errors: tuple[_FieldError, ...] | None = None
    usage: Usage | None = None


class ApiClient:
    """Asks one mitmproxy. ``patience`` is in seconds for each answer.

    Every method raises ``EgressError``: ``NotAsked`` where nothing answers, or not to this token.
    """

    def __init__(self, run: Run, token: str, patience: float) -> None:
        self._run, self._token, self._patience = run, token, patience

    def text(
        self, method: str, path: str, fields: Fields | None = None, /, *, patience: float = 0,
        **query: str | int,
    ) -> str:  # fmt: skip
        """The body of a good answer. Raises ``EgressError`` with the sentence of any other."""
        with self._asked(method, path, fields, patience, query) as answer:
            return answer.read().decode("utf-8", "replace")

    def events(self, path: str, patience: float) -> Iterator[tuple[str, str]]:
        """Server-sent events as pairs of name and data, until the server ends; a comment has no
        name. ``patience`` is in seconds for each line."""
        with self._asked("GET", path, None, patience, {}) as answer:
            name = ""
            while line := answer.readline():
                text = line.decode("utf-8", "replace").rstrip("\n")
                key, _, value = text.partition(": ")
                if key in ("", "data") and text:
                    yield (name if key else ""), value
                elif key == "event":
                    name = value

    @contextmanager
    def _asked(
        self, method: str, path: str, fields: Fields | None, patience: float,
        query: Mapping[str, str | int],
    ) -> Iterator[http.client.HTTPResponse]:  # fmt: skip
        """A good answer, to be read in the block. Raises ``EgressError`` for any other."""
        given = {name: value for name, value in query.items() if value != ""}
        target = f"{_PREFIX}{path}" + (f"?{urlencode(given)}" if given else "")
        body = None if fields is None else json.dumps(fields, default=_plain, ensure_ascii=False)
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        seconds = patience or self._patience
        connection = http.client.HTTPConnection(*self._run.address, timeout=seconds)
        try:
            connection.request(method, target, body and body.encode(), headers)
            answer = connection.getresponse()
            if answer.status not in _GOOD:
                raise self._failure(answer.status, answer.read().decode("utf-8", "replace"))
            yield answer
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise NotAsked(f"{self._run.url} does not answer: {why}") from error
        finally:
            connection.close()

    def view[V: View](
        self, kind: type[V], method: str, path: str, fields: Fields | None = None, /, **how: Any
    ) -> V:
        """A good answer as a view. ``how`` are the further arguments of ``text``."""
        text = self.text(method, path, fields, **how)
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            raise NotAsked(
                f"{self._run.url} answers in a form that is not known here: it may be a mitmproxy "
                "with another version of the egress policy"
            ) from error

    def pages[V: View](self, kind: type[V], path: str, limit: int, **query: str) -> Page[V]:
        """All entries, up to ``limit``."""
        return self.whole(Page[kind], path, limit, **query)  # type: ignore[valid-type]

    def whole[P: Paged](self, kind: type[P], path: str, limit: int, **query: str) -> P:
        """A view whose items come in pages, with all of them up to ``limit``."""
        items: list[Any] = []
        while True:
            step = min(_PAGE, limit - len(items))
            at: Any = {**query, "limit": step, "offset": len(items)}
            got = self.view(kind, "GET", path, **at)
            items += got.items
            total = got.page.total if items else 0
            if not got.items or len(items) >= min(total, limit):
                info = PageInfo(limit=limit, offset=0, total=total)
                return got.model_copy(update={"items": tuple(items), "page": info})

    def _failure(self, status: int, text: str) -> EgressError:
        if status == http.client.UNAUTHORIZED:
            return NotAsked(
                f"{self._run.url} does not take the token in {self._run.token_file}: mitmproxy "
                "reads it when it starts"
            )
        try:
            said = _Problem.model_validate_json(text)
        except ValidationError:
            return RegistryError(f"{self._run.url} answers {status}")
        if said.code == InUse.code and said.usage:
            return InUse(said.detail, said.usage)
        if status == http.client.BAD_REQUEST:
            problems = tuple((one.field, one.message) for one in said.errors or ())
            single = InvalidEntry(said.detail, problems[0][0] if problems else "")
            return InvalidFields(problems) if len(problems) > 1 else single
        known = {one.code: one for one in (NotFound, ReadOnly, Conflict)}
        answered = known.get(said.code, RegistryError)(said.detail)
        answered.code = said.code
        return answered


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
