"""The document describes the API in the words of OpenAPI and JSON Schema, and nothing else."""

import json
from collections.abc import Iterator
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator

from egress_policy.api.openapi import document

# What pydantic and this document use of JSON Schema 2020-12 and of OpenAPI 3.1 beside it.
WORDS = {
    *("$ref", "additionalProperties", "anyOf", "const", "default", "description", "discriminator"),
    *("enum", "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maxLength"),
    *("maximum", "minItems", "minLength", "minimum", "oneOf", "pattern", "prefixItems"),
    *("properties", "required", "title", "type", "uniqueItems", "writeOnly"),
}


def schemas(part: Any, is_schema: bool = False) -> Iterator[dict[str, Any]]:
    """Every schema in a part of the document, from the outside in."""
    if isinstance(part, list):
        for one in part:
            yield from schemas(one, is_schema)
    if not isinstance(part, dict):
        return
    if is_schema:
        yield part
        for key in ("properties", "$defs"):
            for one in part.get(key, {}).values():
                yield from schemas(one, True)
        for key in ("items", "prefixItems", "anyOf", "oneOf", "additionalProperties"):
            yield from schemas(part.get(key), True)
        return
    for key, value in part.items():
        if key == "schemas":
            for one in value.values():
                yield from schemas(one, True)
        else:
            yield from schemas(value, key == "schema")


def test_it_is_valid() -> None:
    found = OpenAPIV31SpecValidator(json.loads(document())).iter_errors()
    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found] == []


def test_schemas_have_no_word_that_no_reader_knows() -> None:
    found = list(schemas(json.loads(document())))
    assert len(found) > 200
    assert {word for schema in found for word in schema} - WORDS == set()


def test_limits_are_stated_where_numbers_are_taken() -> None:
    operation = json.loads(document())["paths"]["/api/v1/management/proxies"]["get"]
    limit = next(one for one in operation["parameters"] if one["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}


def test_summaries_are_english() -> None:
    paths = json.loads(document())["paths"].values()
    summaries = {one["summary"] for path in paths for one in path.values()}
    assert {f"List {kind}, or show one" for kind in ("proxies", "pools", "rules")} <= summaries
    assert not any("proxys" in summary for summary in summaries)
