"""`EGRESS_TOKEN=… python -m tests.bench.watcher URL`: what the page asks for while it is open.

Follows the flows, and asks for the status and the overview in turn. It asks ten times as often as
the page does, so that each slice of a measurement has its share.
"""

import asyncio
import os
import sys

import httpx

EVERY = 0.5
"""Seconds from one question to the next; the page asks every five."""
_MANAGEMENT = "/api/v1/management"


async def watch(url: str, token: str) -> None:
    """Until it is ended, or an answer is not 200."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=None) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_follow(client))
        group.create_task(_ask(client))


async def _follow(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", f"{_MANAGEMENT}/flows/live") as answer:
        answer.raise_for_status()
        print("watching", flush=True)
        async for _ in answer.aiter_raw():
            pass
    raise RuntimeError("the live view has ended")


async def _ask(client: httpx.AsyncClient) -> None:
    while True:
        for path in ("/status", "/overview?limit=50"):
            (await client.get(_MANAGEMENT + path)).raise_for_status()
        await asyncio.sleep(EVERY)


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1], os.environ["EGRESS_TOKEN"]))
