"""Subscriptions over the API, with a server that has the list."""

from pathlib import Path

from tests.api.scene import serving
from tests.helpers.lists import ListServer, answer
from tests.helpers.proxies import Socks5Proxy

LIST = "socks5://u:hush@192.0.2.1:1080#a\nvmess://x\n"


async def test_list_is_looked_at_taken_and_taken_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene, ListServer(LIST) as server, Socks5Proxy() as proxy:
        await scene.make("exit", host="127.0.0.1", port=proxy.port)
        fields = {"name": "seller", "url": server.url(path="/s3cret"), "via": "exit"}
        made = (await scene.ask("POST", "/subscriptions", json=fields)).json()
        assert (made["place"], made["url"]) == (server.url(path="/"), {"set": True})
        path = f"/subscriptions/{made['id']}"
        previewed = (await scene.ask("POST", f"{path}/preview", json={})).json()
        assert (previewed["dry_run"], previewed["created"], previewed["failed"]) == (True, 1, 1)
        assert (await scene.ask("GET", "/proxies")).json()["page"]["total"] == 1
        refreshed = await scene.ask("POST", f"{path}/refresh", json={})
        assert "hush" not in refreshed.text
        assert {key: refreshed.json()[key] for key in ("dry_run", "created")} == {
            "dry_run": False,
            "created": 1,
        }
        [one] = (await scene.ask("GET", "/proxies?q=192.0.2.1")).json()["items"]
        assert (one["name"], one["subscription"], one["password"]) == (
            *("a", "seller", {"set": True}),
        )
        [shown] = (await scene.ask("GET", "/subscriptions")).json()["items"]
        assert (shown["proxies"], shown["last"]["created"]) == (1, 1)
        assert "s3cret" not in str(shown)
        assert proxy.accepted == 2


async def test_list_that_cannot_be_had_is_a_problem_that_says_why(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene, ListServer() as server:
        server.raw = answer("", status="404 Not Found")
        fields = {"name": "seller", "url": server.url(path="/s3cret"), "via": "direct"}
        await scene.ask("POST", "/subscriptions", json=fields)
        failed = await scene.ask("POST", "/subscriptions/seller/refresh", json={})
        assert (failed.status_code, failed.json()["code"]) == (502, "FETCH_FAILED")
        assert failed.json()["detail"] == "The list cannot be had: 127.0.0.1 answered 404"
        assert (
            await scene.ask("POST", "/subscriptions/nobody/refresh", json={})
        ).status_code == 404
        wrong = await scene.ask("POST", "/subscriptions", json={**fields, "via": "nobody"})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "name")
        patched = await scene.ask(
            "PATCH", "/subscriptions", json={"id": "seller", "every_hours": 1, "url": "x"}
        )
        assert (patched.status_code, patched.json()["errors"][0]["field"]) == (400, "url")
        assert "s3cret" not in patched.text


async def test_api_itself_is_never_fetched(tmp_path: Path) -> None:
    async with serving(tmp_path) as scene:
        url = f"http://127.0.0.1:{scene.port}/healthz"
        fields = {"name": "own", "url": url, "via": "direct"}
        await scene.ask("POST", "/subscriptions", json=fields)
        scene.management.router.listeners.of_api = (("127.0.0.1", scene.port),)
        failed = await scene.ask("POST", "/subscriptions/own/preview", json={})
        assert failed.status_code == 502
        assert "a listener of mitmproxy itself" in failed.json()["detail"]
