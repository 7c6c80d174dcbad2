"""The overview, and the order of rules with their hits, as the API answers them."""

from pathlib import Path

from tests.api.scene import serving
from tests.management.test_history import by, event
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


async def test_rules_are_listed_in_the_order_in_which_they_are_asked(tmp_path: Path) -> None:
    async with serving(tmp_path, policy=policy()) as scene:
        made = {"hosts": ["a.test"], "use": "direct"}
        assert (await scene.ask("POST", "/rules", json=made)).status_code == 201
        scene.management.live.publish(event(rule="file #1"))
        found = (await scene.ask("GET", "/rules/order?q=&limit=10")).json()
        assert found["page"]["total"] == 3
        shown = [(one["origin"], one["hits"], one["never_by"]) for one in found["items"]]
        assert shown == [("file", 1, []), ("registry", 0, ["file #1"]), ("default", 0, ["file #1"])]
        rules = (await scene.ask("GET", "/rules")).json()["items"]
        assert [(one["hits"], bool(one["never"])) for one in rules] == [(1, False), (0, True)]
        assert (await scene.ask("GET", "/rules/order?limit=0")).status_code == 400
