"""Steering over the API, as the live view does it."""

from pathlib import Path

from tests.api.scene import serving

LASTS = "for all clients, until it is cleared"


async def test_hosts_are_steered_and_that_is_taken_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        await api.make("one")
        answer = await api.ask("POST", "/steer", json={"hosts": ["a.test"], "use": "one"})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "changed": [
                {
                    "host": "a.test",
                    "before": "direct (default)",
                    "after": "one (host:a.test)",
                    "lasts": LASTS,
                    "overruled_by": "",
                    "said": {"lasts": {"text": LASTS, "code": "until_cleared", "params": {}}},
                }
            ]
        }
        answer = await api.ask("POST", "/undo")
        assert (answer.status_code, answer.json()) == (200, {"undone": "a.test: one"})
        answer = await api.ask("POST", "/undo")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        answer = await api.ask("POST", "/steer", json={"hosts": ["a.test"], "use": "nobody"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "use")
        assert (await api.stranger.post("/api/v1/management/undo")).status_code == 401
