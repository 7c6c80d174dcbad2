"""The OpenAPI 3.1 document, made from the route table and the models."""

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..version import VERSION
from .auth import KEY_HEADER, cookie_name
from .problems import PROBLEM_JSON, ProblemBody
from .resources import ROUTES
from .routes import Fields, Operation

_REF: Final = "#/components/schemas/{model}"
_BESIDE: Final = {
    "id": {"type": "string", "minLength": 1, "description": "Which entry is to change"},
    "before": {
        "anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}],
        "description": "The id of the rule to go before; null is the end",
    },
}
_COOKIE: Final = "{cookie of the port}"
_ALWAYS: Final = (400, 401, 403, 411, 413, 415, 421, 429, 431, 500)
_ANYBODY: Final = (400, 403, 411, 413, 415, 421, 431, 500)
_DESCRIPTION: Final = f"""Problems are answered as application/problem+json (RFC 9457).

A connection has one request. A body states its Content-Length; one in chunks is answered 411.

A session of the page is a cookie and a key: POST /api/v1/session sets the one and answers the
other, and each request states both, the key in {KEY_HEADER}."""


def document(port: int = 20128) -> bytes:
    """The document as JSON, for the listener at a port. It holds no secret."""
    return _any_port().replace(_COOKIE, cookie_name(port)).encode()


@cache
def _any_port() -> str:
    """The document with ``_COOKIE`` as the name of the cookie."""
    definitions = _schemas()[1]
    paths = {
        path: {method.lower(): _operation(path, one) for method, one in methods.items()}
        for path, methods in ROUTES.items()
    }
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Egress policy for mitmproxy: management API",
                "version": VERSION,
                "description": _DESCRIPTION,
            },
            "security": [{"token": []}, {"session": [], "sessionKey": []}],
            "paths": paths,
            "components": {
                "schemas": definitions,
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer"},
                    "session": {"type": "apiKey", "in": "cookie", "name": _COOKIE},
                    "sessionKey": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                },
            },
        }
    )


@cache
def _schemas() -> tuple[dict[type[BaseModel], dict[str, Any]], dict[str, Any]]:
    """Where each model is described, and the descriptions by name."""
    models = _models()
    modes: list[tuple[type[BaseModel], Literal["validation"]]]
    modes = [(model, "validation") for model in models]
    places, definitions = models_json_schema(modes, ref_template=_REF)
    references = {model: dict(places[model, "validation"]) for model in models}
    return references, definitions.get("$defs", {})


def _models() -> list[type[BaseModel]]:
    found: list[Any] = []
    for methods in ROUTES.values():
        for operation in methods.values():
            body = operation.body
            _shown([body.model if isinstance(body, Fields) else body], found.append)
            _shown([*operation.answers.values()], found.append)
    return [*dict.fromkeys(found), ProblemBody]


def _shown(schema: Any, refer: Callable[[type[BaseModel]], Any]) -> Any:
    """A schema in which ``refer`` takes the place of models. A tuple is any of its parts."""
    if isinstance(schema, type):
        return refer(schema)
    if isinstance(schema, tuple):
        parts = [{"type": "null"} if one is None else _shown(one, refer) for one in schema]
        return {"anyOf": parts}
    if isinstance(schema, dict):
        return {key: _shown(value, refer) for key, value in schema.items()}
    return [_shown(one, refer) for one in schema] if isinstance(schema, list) else schema


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    parameters = [
        *({"name": name, "in": "path", "required": True, "schema": text}
          for name in re.findall(r"{(\w+)}", path)),
        *_parameters(operation),
    ]  # fmt: skip
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    if parameters:
        described["parameters"] = parameters
    if operation.access == "anybody":
        described["security"] = []
    if operation.body is not None:
        content = {"application/json": {"schema": _body(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    schema = operation.query.model_json_schema(ref_template=_REF)
    for name, of in schema.get("properties", {}).items():
        plain = {key: value for key, value in of.items() if key != "title"}
        if variants := plain.pop("anyOf", None):
            plain = {**variants[0], **{k: v for k, v in plain.items() if k != "default"}}
        required = name in schema.get("required", ())
        yield {"name": name, "in": "query", "required": required, "schema": plain}
    if operation.if_match:
        yield {
            "name": "If-Match",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "pattern": '^(\\*|"[!-~]*")$'},
        }


def _body(body: type[BaseModel] | Fields) -> dict[str, Any]:
    if not isinstance(body, Fields):
        return _reference(body)
    own = body.model.model_json_schema(ref_template=_REF)
    properties: dict[str, Any] = {
        name: {key: value for key, value in of.items() if not (body.partial and key == "default")}
        for name, of in own["properties"].items()
    }
    for name in body.beside:
        properties[name] = _BESIDE[name]
    required = [] if body.partial else own.get("required", [])
    required = [*required, *(["id"] if "id" in body.beside else [])]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _responses(operation: Operation) -> dict[str, Any]:
    answered: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        described: dict[str, Any] = {"description": "Done"}
        if answer is not None:
            schema = _shown(answer, _reference)
            described["content"] = {media: {"schema": schema} for media in operation.media}
        answered[str(status)] = described
    always = _ANYBODY if operation.access == "anybody" else _ALWAYS
    for status in sorted({*always, *operation.errors}):
        problem = {PROBLEM_JSON: {"schema": _reference(ProblemBody)}}
        known = answered.setdefault(str(status), {"description": "Problem", "content": {}})
        known["content"] |= problem
    return answered


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return _schemas()[0][model]
