"""What the API serves is loaded with the first request, and only then."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from egress_policy.api import served
from egress_policy.api.served import DOCUMENT, Served
from tests.api.scene import serving


class Loads:
    """Counts how often it is loaded; raises ``error`` if there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.count = 0
        self._error = error
        monkeypatch.setattr(served, "Served", self._load)

    def _load(self, port: int) -> Served:
        self.count += 1
        if self._error:
            raise self._error
        return Served(port)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: attacker.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost",
    ],
)
async def test_nothing_is_loaded_for_what_is_no_request_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    loads = Loads(monkeypatch)
    async with serving(tmp_path) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(sent)
        writer.write_eof()
        await reader.read()
        writer.close()
        assert loads.count == 0
        assert (await scene.ask("GET", "/healthz")).status_code == 200
        assert loads.count == 1


async def test_a_flood_of_first_requests_loads_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(monkeypatch)
    async with serving(tmp_path) as scene:
        paths = ["/healthz", "/", "/nowhere", DOCUMENT] * 10
        answers = await asyncio.gather(*(scene.stranger.get(path) for path in paths))
        assert [one.status_code for one in answers] == [200, 200, 404, 200] * 10
    assert loads.count == 1


async def test_what_cannot_be_loaded_is_answered_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loads = Loads(monkeypatch, ImportError("cannot import name 'x' from 'pydantic'"))
    async with serving(tmp_path) as scene:
        with caplog.at_level(logging.ERROR):
            for _ in range(5):
                answer = await scene.ask("GET", "/proxies")
                assert answer.status_code == 500
                assert answer.headers["content-type"] == "application/problem+json"
                assert "the log says why" in answer.json()["detail"]
                assert "pydantic" not in answer.text
        [record] = caplog.records
        assert "what it serves cannot be loaded" in record.message
        assert "from 'pydantic'" in caplog.text
        # Who is let in does not depend on it.
        assert (await scene.ask("GET", "/", headers={"Host": "attacker.test"})).status_code == 421
        assert scene.server.links.link()
    assert loads.count == 1


async def test_a_document_that_cannot_be_made_leaves_all_else_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> bytes:
        raise RuntimeError("no schema")

    monkeypatch.setattr(served, "document", fail)
    async with serving(tmp_path) as scene:
        with caplog.at_level(logging.ERROR):
            assert (await scene.ask("GET", DOCUMENT)).status_code == 500
        assert f"{DOCUMENT} cannot be loaded" in caplog.text
        assert (await scene.ask("GET", "/proxies")).status_code == 200


async def test_the_server_stops_while_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def load(port: int) -> Served:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        return Served(port)

    monkeypatch.setattr(served, "Served", load)
    async with serving(tmp_path) as scene:
        asking = asyncio.create_task(scene.ask("GET", "/healthz"))
        await begun.wait()
        scene.server.stop()
        with pytest.raises(httpx.TransportError):
            await asking
        go_on.set()
        assert not scene.server.is_listening
