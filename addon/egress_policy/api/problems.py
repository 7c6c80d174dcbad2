"""Errors as answers: ``application/problem+json`` (RFC 9457) for all of them."""

from http import HTTPStatus
from typing import Any, Final

from pydantic import ConfigDict, ValidationError

from ..errors import EgressError, InUse, InvalidEntry, RegistryUnavailable
from ..log import get_logger
from ..management.usage import UsageView
from ..management.views import Spoken
from ..model.faults import sentence_of
from ..sentence import Sentence

logger = get_logger(__name__)

PROBLEM_JSON: Final = "application/problem+json"


class FieldError(Spoken):
    """``field`` is the part of the body or query that ``message`` is about."""

    field: str
    message: str


class ProblemBody(Spoken):
    """``code`` is a stable word, ``detail`` a sentence for people, free of secrets. ``said`` has
    what the sentence was made of; its code is finer."""

    model_config = ConfigDict(extra="forbid")

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[FieldError, ...] | None = None
    usage: UsageView | None = None


class Problem(Exception):
    """An exception that becomes an answer with these ``headers``."""

    def __init__(
        self, status: int, code: str, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = headers or {}


def problem_of(error: Exception) -> tuple[ProblemBody, dict[str, str]]:
    """Body and headers for any exception. Unexpected exceptions are logged and not shown."""
    headers: dict[str, str] = {}
    extra: dict[str, Any] = {}
    if isinstance(error, Problem):
        status, code, detail = error.status, error.code, error.detail
        headers = error.headers
    elif isinstance(error, ValidationError):
        errors = tuple(_field_errors(error))
        status, code, detail = 400, "INVALID_ENTRY", "; ".join(map(_sentence, errors))
        extra = {"errors": errors}
    elif isinstance(error, EgressError):
        status, code, detail = error.status, error.code, error.text
        if pairs := error.by_field:
            extra = {"errors": tuple(FieldError(field=f, message=m) for f, m in pairs)}
        if isinstance(error, InUse):
            extra = {"usage": UsageView.model_validate(error.usage, from_attributes=True)}
        if isinstance(error, RegistryUnavailable) and error.retry_after is not None:
            headers = {"Retry-After": str(error.retry_after)}
    else:
        logger.error("Egress management API: unexpected", exc_info=error)
        status, code = 500, "INTERNAL"
        detail = Sentence("unexpected", "Something unexpected happened; the log says more")
    title = HTTPStatus(status).phrase
    return ProblemBody(title=title, status=status, code=code, detail=detail, **extra), headers


def _field_errors(error: ValidationError) -> list[FieldError]:
    """Without the rejected values, which may be secrets."""
    found = []
    for one in error.errors(include_url=False, include_input=False):
        place, message = ".".join(map(str, one["loc"])), sentence_of(one)
        cause = one.get("ctx", {}).get("error")
        if isinstance(cause, InvalidEntry):  # without pydantic's "Value error" before it
            place, message = place or cause.field, cause.text
        found.append(FieldError(field=place, message=message))
    return found


def _sentence(error: FieldError) -> str:
    return f"{error.field}: {error.message}" if error.field else error.message
