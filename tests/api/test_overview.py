"""The overview as the API answers it."""

from pathlib import Path

from tests.api.scene import serving
from tests.management.test_history import by
from tests.management.test_members import policy


async def test_the_overview_is_shown(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="", policy=policy()) as scene:
        assert (await scene.stranger.get("/api/v1/management/overview")).status_code == 401
        scene.management.live.publish(by("home-2"))
        found = (await scene.ask("GET", "/overview?limit=2&q=home&sort=-flows")).json()
        assert [one["exit"] for one in found["exits"]["items"]] == ["home-2", "home-1"]
        assert found["exits"]["page"] == {"limit": 2, "offset": 0, "total": 3}
        assert found["series"] == [{"exit": "home-2", "flows": [0] * 59 + [1]}]
        assert found["now"] == {"per_second": 0, "active": 0}
        for wrong in ("sort=colour", "limit=0", "more=1"):
            assert (await scene.ask("GET", f"/overview?{wrong}")).status_code == 400
