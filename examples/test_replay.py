"""Saved flows, replayed through a pinned egress in a test of one's own: did each leave as it must?

    pytest examples/test_replay.py

Exit and flows are stand-ins: name your own proxy in POLICY, record flows with `mitmdump -w`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mitmproxy.http import HTTPFlow, Request
from mitmproxy.io import FlowWriter
from mitmproxy.options import Options
from mitmproxy.test.tflow import tflow
from mitmproxy.tools.dump import DumpMaster

import egress_policy

POLICY = """
version: 1
proxies:
  - {name: v6-exit, host: exit.example.com, port: PORT, family: ipv6}
rules:
  - {hosts: [api.example.com], use: v6-exit}
default: refuse
"""


class Collect:
    def __init__(self) -> None:
        self.flows: list[HTTPFlow] = []

    def response(self, flow: HTTPFlow) -> None:
        self.flows.append(flow)


async def replay(calls: Path, policy: Path, hosts: Path) -> list[HTTPFlow]:
    """Send the saved requests again under a policy; ends after the last one."""
    options = Options(confdir=str(policy.parent), server=False)
    master = DumpMaster(options, with_termlog=False, with_dumper=False)
    collect = Collect()
    master.addons.add(*egress_policy.default_addons(), collect)
    options.update(egress_policy=str(policy), egress_hosts_file=str(hosts), egress_listen="")
    options.update(client_replay=[str(calls)])
    async with asyncio.timeout(20):
        await master.run()
    return collect.flows


@asynccontextmanager
async def stand_in(host: str) -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTP proxy that answers everything itself. Returns its port, and the URLs of its
    requests."""
    urls: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        urls.append(head.split()[1].decode())
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, host, 0) as server:
        yield server.sockets[0].getsockname()[1], urls


async def scene(folder: Path, exit_address: str) -> tuple[list[HTTPFlow], list[str]]:
    """The results of two calls, and the requests that an exit at this address received."""
    calls, policy, hosts = folder / "calls.flows", folder / "policy.yaml", folder / "hosts"
    with calls.open("wb") as file:
        for path in ("users", "orders"):
            FlowWriter(file).add(tflow(req=Request.make("GET", f"http://api.example.com/{path}")))
    hosts.write_text(f"{exit_address} exit.example.com\n")
    async with stand_in(exit_address) as (port, urls):
        policy.write_text(POLICY.replace("PORT", str(port)))
        return await replay(calls, policy, hosts), urls


def test_every_call_leaves_by_the_exit_over_ipv6(tmp_path: Path) -> None:
    flows, urls = asyncio.run(scene(tmp_path, "::1"))
    assert urls == ["http://api.example.com/users", "http://api.example.com/orders"]
    for flow in flows:
        assert flow.response
        assert flow.response.status_code == 204
        assert flow.metadata["egress.proxy"] == "v6-exit"
        assert flow.metadata["egress.address"] == "::1"
        assert flow.metadata["egress.peer_family"] == "ipv6"


def test_no_call_leaves_when_the_exit_has_ipv4_only(tmp_path: Path) -> None:
    flows, urls = asyncio.run(scene(tmp_path, "127.0.0.1"))
    assert urls == []
    assert len(flows) == 2
    for flow in flows:
        assert flow.response
        assert flow.response.status_code == 503
        assert flow.metadata["egress.code"] == "PROXY_FAMILY_UNAVAILABLE"
        assert flow.metadata["egress.reason"] == "no_record"
