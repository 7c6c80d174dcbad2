"""Exits over the API: pushed, looked at, listed, shared, counted."""

from pathlib import Path
from typing import Any

import pytest

from egress_policy.management.echo import KEY_FILE, running_echo
from egress_policy.model.settings import parse_listen
from tests.api.scene import Scene, serving
from tests.helpers.proxies import HttpProxy

SEEN = "203.0.113.1"


async def push(scene: Scene, *observations: dict[str, Any]) -> tuple[int, Any]:
    body = {"observations": observations}
    answer = await scene.ask("POST", "/exits/observations", json=body)
    return answer.status_code, answer.json()


async def test_what_is_pushed_is_listed_with_what_is_expected(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.make(exit_family="ipv6", exit_in=["2001:db8::/32"])
        await scene.make("two")
        said = {"proxy": made["id"], "address": f"::ffff:{SEEN}"}
        assert await push(scene, said) == (200, {"success": True, "taken": 1})
        one, two = (await scene.ask("GET", "/exits")).json()["items"]
        (seen,) = one.pop("exits")
        assert one.pop("said")["problem"]["code"] == "of_proxy"
        assert (seen["address"], seen["family"], seen["source"]) == (SEEN, "ipv4", "push")
        assert one == {
            "proxy": "one",
            "exit_family": "ipv6",
            "exit_in": ["2001:db8::/32"],
            "exit_enforce": False,
            "problem": "Proxy one: a target saw an IPv4 address, and exit_family is ipv6",
        }
        assert (two["proxy"], two["exits"]) == ("two", [])
        alone = (await scene.ask("GET", "/exits", params={"proxy": "two"})).json()
        assert alone["items"] == [two]
        status = (await scene.ask("GET", "/status")).json()
        assert status["exits"] == {"changes": 0, "contradicted": 1}
        assert status["warnings"] == [one["problem"]]
        metrics = (await scene.ask("GET", "/metrics")).text
        assert "egress_exit_changes_total 0.0" in metrics
        assert "egress_exits_contradicted 1.0" in metrics
        assert SEEN not in metrics


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"proxy": "nobody"}, 404, "observations.1.proxy"),
        ({"address": "x"}, 400, "observations.1.address"),
        ({"at": "yesterday"}, 400, "observations.1.at"),
        ({"more": 1}, 400, "observations.1.more"),
    ],
)
async def test_a_push_with_a_fault_takes_nothing(
    tmp_path: Path, change: dict[str, Any], status: int, field: str
) -> None:
    async with serving(tmp_path) as scene:
        await scene.make()
        good = {"proxy": "one", "address": SEEN}
        found, body = await push(scene, good, {**good, **change})
        assert (found, field in body["detail"]) == (status, True)
        assert (await scene.ask("GET", "/exits")).json()["items"][0]["exits"] == []


async def test_exits_are_looked_at_on_request(tmp_path: Path) -> None:
    listen = parse_listen("127.0.0.1:0")
    async with (
        serving(tmp_path) as scene,
        running_echo(listen, tmp_path / KEY_FILE) as echo,
        HttpProxy() as proxy,
    ):
        await scene.make("dc", type="http", host="127.0.0.1", port=proxy.port)
        asked = {"proxies": ["dc"]}
        refused = await scene.ask("POST", "/exits/probe", json=asked)
        assert (refused.status_code, "No echo is set" in refused.text) == (400, True)
        await scene.ask("PUT", "/settings", json={"echo": {"ipv4": echo.ipv4}})
        (look,) = (await scene.ask("POST", "/exits/probe", json=asked)).json()["items"]
        assert (look["ok"], look["address"]) == (True, "127.0.0.1")
        unknown = await scene.ask("POST", "/exits/probe", json={"proxies": ["dc", "nobody"]})
        assert unknown.status_code == 404


async def test_who_shares_an_exit_is_listed(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        made = await scene.make()
        for user in ("ann", "bob"):
            body = {"scope": "user", "scopeId": user, "proxyId": made["id"], "group": "accounts"}
            assert (await scene.ask("PUT", "/proxies/assignments", json=body)).status_code == 200
        await push(scene, {"proxy": "one", "address": "2001:db8::1"})
        (found,) = (await scene.ask("GET", "/exits/shared")).json()["items"]
        assert (found["group"], found["decided"], found["exit"]) == (
            "accounts", True, "2001:db8::/64",
        )  # fmt: skip
        assert [one["assignment"] for one in found["users"]] == ["user:ann", "user:bob"]


@pytest.mark.parametrize("path", ["/exits", "/exits/shared"])
async def test_exits_are_not_for_strangers(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as scene:
        answer = await scene.stranger.get(f"/api/v1/management{path}")
        assert answer.status_code == 401
