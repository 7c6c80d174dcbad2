"""Flows saved with the addon, loaded in a mitmdump without the addon, and back again."""

import base64
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import connection, http, io
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.test import tflow

from tests.e2e.curl import curl
from tests.e2e.mitmdump import egress, read_http
from tests.e2e.programs import EXIT, IPV4, PASSWORD, USERNAME, nginx, squid, tinyproxy
from tests.e2e.system import Program
from tests.helpers.clients import http2_client
from tests.helpers.mitm import Mitmdump

pytestmark = pytest.mark.e2e

SECRETS = (PASSWORD.encode(), base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()))


async def test_saved_flows_are_read_replayed_and_edited_without_the_addon(tmp_path: Path) -> None:
    saved, copy, again = (tmp_path / f"{name}.flow" for name in ("saved", "copy", "again"))
    async with nginx(tmp_path) as origin:
        await record(tmp_path, origin, saved)
        original = read_http(saved)
        assert [one.response.status_code for one in original if one.response] == [200] * 4 + [503]
        assert {one.server_conn.via for one in original} == {None}
        assert all("proxy-authorization" not in one.request.headers for one in original)
        assert {seen(one)["credentials"] for one in original[:4]} == {""}

        wanted = '~meta "^egress.proxy: exit$" & ! ~c 503'
        await plain(tmp_path, "-n", "-r", str(saved), "-w", str(copy), wanted)
        copied = read_http(copy)
        assert [one.id for one in copied] == [one.id for one in original[:4]]
        assert [one.get_state() for one in copied] == [one.get_state() for one in original[:4]]

        edit = ("--modify-headers", "/~q/x-edited/yes", "--modify-body", "/~q/hello/goodbye")
        await plain(tmp_path, "-C", str(copy), "-w", str(again), *edit)
        replayed = read_http(again)
        assert sorted(map(asked, replayed)) == sorted(map(asked, original[:4]))
        for one in replayed:
            reached = seen(one)
            assert (reached["peer"], reached["edited"], reached["credentials"]) == (IPV4, "yes", "")
            assert b"hello" not in (one.request.raw_content or b"")


async def test_replay_with_the_addon_obeys_the_policy_and_no_stored_via(tmp_path: Path) -> None:
    saved, again, refused = (tmp_path / f"{name}.flow" for name in ("saved", "again", "refused"))
    async with nginx(tmp_path) as origin, tinyproxy(tmp_path) as proxy:
        urls = f"http://{IPV4}:{origin.port}/", f"https://{IPV4}:{origin.tls_port}/"
        with saved.open("wb") as file:
            for url in urls:
                io.FlowWriter(file).add(of_upstream_mode(url, proxy.port))
        direct = {"rules": [{"hosts": [IPV4], "use": "direct", "family": "ipv4"}]}
        for policy, result in ((direct, again), ({"default": "refuse"}, refused)):
            mitm = egress(tmp_path, "-C", str(saved), "-w", str(result), policy=policy)
            assert (await mitm.run_to_exit())[0] == 0
    assert [seen(one)["peer"] for one in read_http(again)] == [IPV4, IPV4]
    assert [one.metadata["egress.use"] for one in read_http(again)] == ["direct", "direct"]
    assert [one.response and one.response.status_code for one in read_http(refused)] == [503, 503]
    assert len((tmp_path / "origin.log").read_text().splitlines()) == 2


def of_upstream_mode(url: str, port: int) -> http.HTTPFlow:
    """A flow as mitmproxy's own upstream mode saves it: with the proxy in ``via``."""
    flow = tflow.tflow(req=http.Request.make("GET", url, headers=[(b"host", IPV4.encode())]))
    via: ServerSpec = ("http", (IPV4, port))
    flow.server_conn = connection.Server(address=(IPV4, flow.request.port), via=via)
    return flow


async def record(folder: Path, origin: Program, saved: Path) -> None:
    """Four flows through squid (plain, POST, TLS, HTTP/2) and one that is refused."""
    http_, https = f"http://{IPV4}:{origin.port}", f"https://{IPV4}:{origin.tls_port}"
    async with squid(folder) as proxy:
        account = {"username": USERNAME, "password": PASSWORD}
        policy: dict[str, Any] = {
            "proxies": [{"name": "exit", "host": IPV4, "port": proxy.port, **account}],
            "rules": [{"filter": "! ~u /refused", "use": "exit"}],
            "default": "refuse",
        }
        har = folder / "flows.har"
        options: dict[str, Any] = {"hardump": har, "flow_detail": 4, "termlog_verbosity": "debug"}
        async with egress(folder, "-w", str(saved), policy=policy, **options) as mitm:
            assert (await curl(f"{http_}/plain", *mitm.proxy)).reached[:2] == (200, EXIT)
            post = await curl(f"{http_}/post", *mitm.proxy, "-d", "hello")
            assert post.reached[:2] == (200, EXIT)
            tls = await curl(f"{https}/tls", *mitm.proxy, "--http1.1")
            assert tls.reached == (200, EXIT, "HTTP/1.1")
            async with http2_client(mitm.port, mitm.ca_cert) as client:
                assert (await client.get(f"{https}/http2")).json()["protocol"] == "HTTP/2.0"
            refused = await curl(f"{http_}/refused", *mitm.proxy)
            assert refused.status == 503
    written = [path for path in (saved, har, *(folder / "conf").iterdir()) if path.is_file()]
    assert har in written
    told = [mitm.output, refused.headers, refused.body, *(answer_log(folder))]
    for secret in SECRETS:
        assert [path for path in written if secret in path.read_bytes()] == []
        assert [text for text in told if secret.decode() in text] == []


def answer_log(folder: Path) -> list[str]:
    """The requests in the origin's log, line by line."""
    return (folder / "origin.log").read_text().splitlines()


async def plain(folder: Path, *args: str) -> None:
    """mitmdump in its plain form, with its own configuration, until it ends."""
    status, output = await Mitmdump(folder / "plain-conf", *args, script=None).run_to_exit()
    assert status == 0, output
    assert "Traceback" not in output, output


def asked(flow: http.HTTPFlow) -> tuple[str, str]:
    return flow.request.method, flow.request.path


def seen(flow: http.HTTPFlow) -> dict[str, Any]:
    """What reached the origin, as it reports."""
    assert flow.response
    answer: dict[str, Any] = flow.response.json()
    return answer
