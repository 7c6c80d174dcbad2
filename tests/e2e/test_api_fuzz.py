"""The API against its own description: it answers any request as described."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from egress_policy.api.openapi import document
from tests.api.scene import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
schema = schemathesis.openapi.from_file(document().decode())
CHECKS = (
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL and token of an API in its own event loop."""
    folder: Path = tmp_path_factory.mktemp("api")
    ready, place = threading.Event(), list[str]()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with serving(folder) as scene:
            await scene.make("one")
            await scene.ask("PUT", "/settings", json={"test_url": "http://127.0.0.1:1/"})
            place.extend((scene.server.url.rstrip("/"), scene.token))
            over = asyncio.Event()
            place_over.append(over)
            ready.set()
            await over.wait()

    place_over: list[asyncio.Event] = []
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield place[0], place[1]
    loop.call_soon_threadsafe(place_over[0].set)
    thread.join(30)
    loop.close()


@schema.exclude(path_regex="flows/live|session|/test$").parametrize()
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case: "schemathesis.Case[Any]", served: tuple[str, str]) -> None:
    url, token = served
    answer = case.call(base_url=url, headers={"Authorization": f"Bearer {token}"})
    case.validate_response(answer, checks=list(CHECKS))
