"""The members of pools, their leases, resets and events, as the API answers."""

from pathlib import Path

from egress_policy.management.states import STATES
from tests.api.scene import serving
from tests.management.test_members import NAMES, fail, pick, policy


async def test_members_of_a_pool_of_the_policy_file(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="", policy=policy()) as scene:
        fail(scene.management, "home-2")
        for key in ("file:homes", "file%3Ahomes", "homes"):
            found = (await scene.ask("GET", f"/pools/{key}/members")).json()
            assert [one["proxy"] for one in found["items"]] == [*NAMES]
        two = found["items"][1]
        assert (two["status"], two["state"]) == ("active", "open")
        assert (two["why"], two["trial"]) == ("3 x connect_refused", False)
        assert two["retry_at"].endswith("Z")
        assert two["last_failure"] == {
            "reason": "connect_refused", "fault": "proxy", "what": "cannot connect",
        }  # fmt: skip
        assert two["exits"]["exits"] == []
        only = (await scene.ask("GET", "/pools/homes/members?state=open&limit=1")).json()
        assert [one["proxy"] for one in only["items"]] == ["home-2"]
        assert only["states"] == {"closed": 2, "open": 1}
        assert (await scene.ask("GET", "/pools/homes/members?state=bad")).status_code == 400
        assert (await scene.ask("GET", "/pools/nowhere/members")).status_code == 404
        for state in STATES:
            answer = await scene.ask("GET", f"/pools/homes/members?state={state}")
            assert answer.status_code == 200


async def test_a_reset_closes_a_circuit_and_is_an_event(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="", policy=policy()) as scene:
        fail(scene.management, "home-2")
        path = "/proxies/file:home-2/reset"
        refused = await scene.stranger.post(f"/api/v1/management{path}")
        assert refused.status_code == 401
        assert scene.management.states.word("home-2") == "open"
        done = await scene.ask("POST", path)
        assert done.json() == {"proxy": "home-2", "was": "open", "state": "closed"}
        assert (await scene.ask("POST", "/proxies/nowhere/reset")).status_code == 404
        events = (await scene.ask("GET", "/events?proxy=home-2")).json()["items"]
        assert [event["kind"] for event in events] == ["reset", "opened"]
        assert "3 x connect_refused" in events[1]["text"]
        assert (await scene.ask("GET", "/events?proxy=home-1")).json()["items"] == []
        assert len((await scene.ask("GET", "/events?limit=1")).json()["items"]) == 1
        assert (await scene.ask("GET", "/events?limit=0")).status_code == 400


async def test_leases_are_shown_and_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="", policy=policy(strategy="sticky")) as scene:
        for number in range(4):
            pick(scene.management, f"192.0.2.{number}")
        found = (await scene.ask("GET", "/pools/homes/leases?limit=2")).json()
        assert found["page"] == {"limit": 2, "offset": 0, "total": 4}
        assert found["items"][0].keys() == {"key", "member", "age_s", "expires_in_s"}
        assert "192.0.2." not in str(found)
        done = await scene.ask("DELETE", "/pools/homes/leases")
        assert done.json() == {"pool": "homes", "forgotten": 4}
        assert (await scene.ask("GET", "/pools/homes/leases")).json()["items"] == []
