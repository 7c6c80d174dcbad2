"""mitmdump's line about the way of a flow: behind the lines of its dumper, and only with them."""

import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mitmproxy import http
from mitmproxy.addons.dumper import Dumper
from mitmproxy.test import tflow

from egress_policy import default_addons
from egress_policy.management.management import Management
from egress_policy.proxy.addons.lines import EgressLines, EgressLineWriter
from tests.helpers.clients import connect, http_get
from tests.helpers.lab import request_to
from tests.helpers.mitm import Mitm, Mitmdump
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.playbook import addons
from tests.helpers.proxies import HttpProxy, Socks5Proxy, entry
from tests.helpers.scene import egress, part, write_policy
from tests.proxy.test_dns_mode import ask
from tests.proxy.test_replay import replay

RULES: list[dict[str, Any]] = [{"hosts": ["127.0.0.1"], "use": "direct"}, {"use": "refuse"}]
DEAD = "http://192.0.2.1:1/"


@asynccontextmanager
async def dumping(mitm: Mitm, terminal: bool = False) -> AsyncIterator[tuple[Mitm, io.StringIO]]:
    """A mitmproxy with a dumper where mitmdump has it, and what that writes."""
    written = io.StringIO()
    async with mitm:
        dumper = Dumper(written)
        dumper.out_has_vt_codes = terminal
        mitm.master.addons.add(dumper)
        part(EgressLines).running()
        yield mitm, written


def lines(written: io.StringIO) -> list[str]:
    """Ports of clients differ from run to run, and so do times."""
    found = re.sub(r"127\.0\.0\.1:\d+(?=[: ]|$)", "PLACE", written.getvalue(), flags=re.MULTILINE)
    return re.sub(r"[<\d ]+ ms to", "N ms to", found).splitlines()


async def test_line_stands_behind_those_of_its_flow(tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy:
        rules = [{"hosts": ["127.0.0.1"], "use": "exit"}, {"name": "no", "use": "refuse"}]
        policy: dict[str, Any] = {"proxies": [entry("socks5", proxy)], "rules": rules}
        async with dumping(egress(tmp_path, **policy)) as (mitm, written):
            assert (await http_get(mitm.port, origin.url())).status == 200
            assert (await http_get(mitm.port, DEAD)).status == 503
            asked, answered, way, refused, why, line = lines(written)
            assert ("GET" in asked, "<< 200 " in answered) == (True, True)
            assert way == "   via exit PLACE IPv4, rule #1,N ms to the exit"
            assert ("192.0.2.1" in refused, "503" in why) == (True, True)
            assert line == "   refused, rule no"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"egress_log": "all"}, ["direct", "refused"]),
        ({"egress_log": "refusals"}, ["refused"]),
        ({"egress_log": "none"}, []),
        ({"flow_detail": 0}, []),
        ({"dumper_filter": "~c 200"}, ["direct"]),
        ({"flow_detail": 3}, ["direct", "refused"]),
    ],
)
async def test_line_is_written_as_options_say(
    options: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    async with Origin() as origin, dumping(egress(tmp_path, rules=RULES)) as (mitm, written):
        mitm.options.update(**options)
        await http_get(mitm.port, origin.url())
        await http_get(mitm.port, DEAD)
        found = re.findall(r"^   (direct|refused)", written.getvalue(), re.MULTILINE)
        assert found == expected


async def test_colours_are_for_terminals(tmp_path: Path) -> None:
    async with Origin() as origin, dumping(egress(tmp_path, rules=RULES), True) as (mitm, written):
        await http_get(mitm.port, origin.url())
        await http_get(mitm.port, DEAD)
        assert "   \x1b[32mdirect\x1b[0m 127" in written.getvalue()
        assert "   \x1b[31m\x1b[1mrefused\x1b[0m, rule #2\n" in written.getvalue()


async def test_stream_and_look_up_have_their_line(tmp_path: Path) -> None:
    async with TcpEcho() as echo, HttpProxy() as proxy:
        policy: dict[str, Any] = {
            "proxies": [entry("http", proxy)],
            "rules": [{"ports": [echo.port], "use": "exit"}, {"ports": [53], "use": "direct"}],
            "default": "refuse",
        }
        async with dumping(egress(tmp_path, mode=["regular", "dns"], **policy)) as (mitm, written):
            async with connect(mitm.port, *echo.address) as tunnel:
                await tunnel.send(b"\x00ping")
                await tunnel.receive(5)
            await mitm.wait_for_flows(1)
            last = lines(written)[-2:]
            assert last[0] == "PLACE -> tcp -> PLACE"
            assert last[1].startswith("   via exit PLACE IPv4, rule #1,N ms to the exit")
            await ask(mitm.ports[1], "localhost")
            await mitm.until(lambda: "localhost" in written.getvalue())
            assert lines(written)[-1].startswith("   direct")


def test_host_of_a_stream_never_reaches_the_terminal_as_it_is() -> None:
    """A client of SOCKS5 may name any host."""
    written = io.StringIO()
    flow = tflow.ttcpflow()
    flow.server_conn.address = ("\x1b[2J\n\u202efaked", 1)
    flow.metadata |= {"egress.use": "direct", "egress.rule": "default"}
    with addons(Dumper(written)):
        EgressLineWriter(
            cast(Management, SimpleNamespace(options=SimpleNamespace(log="all")))
        ).tcp_end(flow)
    said = written.getvalue()
    assert len(said.splitlines()) == 2
    assert said.replace("\n", "").isprintable()


async def test_flow_that_another_addon_answers_has_no_line(tmp_path: Path) -> None:
    class Answer:
        def request(self, flow: http.HTTPFlow) -> None:
            flow.response = http.Response.make(200, b"answered")

    mitm = Mitm(tmp_path, Answer(), *default_addons())
    async with dumping(mitm) as (mitm, written):
        assert (await http_get(mitm.port, DEAD)).status == 200
        await mitm.wait_for_flows(1)
        assert "<< 200 " in lines(written)[-1]
        assert mitm.http_flows[0].comment == ""


async def test_writer_leaves_with_the_script_and_comes_back_at_the_end(tmp_path: Path) -> None:
    async with dumping(egress(tmp_path)) as (mitm, _):
        manager, keeper = mitm.master.addons, part(EgressLines)
        for _ in range(2):
            assert isinstance(manager.chain[-1], EgressLineWriter)
            assert "egresslinewriter" in manager.lookup
            keeper.running()
            assert writers(mitm) == 1
            keeper.done()
            assert writers(mitm) == 0
            assert "egresslinewriter" not in manager.lookup
            mitm.options.flow_detail = 2
            assert writers(mitm) == 0
            keeper.running()


async def test_no_writer_stands_in_the_way_where_nothing_is_written(tmp_path: Path) -> None:
    async with egress(tmp_path) as mitm:  # as in mitmweb
        assert writers(mitm) == 0
        part(EgressLines).done()
    async with dumping(egress(tmp_path)) as (mitm, _):
        for detail in (0, 1, 2, 0):
            mitm.options.flow_detail = detail
            assert writers(mitm) == bool(detail)


def writers(mitm: Mitm) -> int:
    return sum(isinstance(one, EgressLineWriter) for one in mitm.master.addons.chain)


async def test_comment_has_the_line_unless_it_is_in_use(tmp_path: Path) -> None:
    class Comments:
        def request(self, flow: http.HTTPFlow) -> None:
            flow.comment = flow.request.query.get("comment", "")

    mitm = egress(tmp_path, rules=RULES)
    mitm._given = (Comments(), *mitm._given)
    async with Origin() as origin, mitm:
        await http_get(mitm.port, origin.url())
        await http_get(mitm.port, origin.url() + "?comment=mine")
        await http_get(mitm.port, DEAD)
        place = re.escape(f"127.0.0.1:{origin.port} IPv4")
        direct, mine, refused = (one.comment for one in await mitm.wait_for_flows(3))
        assert re.fullmatch(f"direct {place}, rule #1", direct)
        assert (mine, refused) == ("mine", "refused, rule #2")
        mitm.options.update(egress_comment=False)
        await http_get(mitm.port, DEAD)
        assert (await mitm.wait_for_flows(4))[-1].comment == ""


async def test_comment_of_an_earlier_run_is_replaced_and_a_person_s_is_not(tmp_path: Path) -> None:
    async with Origin() as origin:
        first, mine = (request_to(origin.url()) for _ in range(2))
        async with egress(tmp_path, default="refuse") as mitm:
            await replay(mitm, first, mine)
            assert (first.comment, mine.comment) == ("refused, default",) * 2
            mine.comment += "!"
            write_policy(tmp_path / "policy.yaml", default="direct")
            await mitm.wait_for_log("reloaded")
            await replay(mitm, first, mine)
            assert first.comment.startswith("direct 127.0.0.1:")
            assert mine.comment == "refused, default!"


async def test_mitmdump_says_it_of_saved_flows_and_in_a_process(tmp_path: Path) -> None:
    saved = tmp_path / "saved.flow"
    policy = write_policy(tmp_path / "policy.yaml", rules=[{"name": "out", "use": "direct"}])
    async with Origin() as origin:
        options: dict[str, Any] = {"egress_policy": policy, "egress_hosts_file": ""}
        async with Mitmdump(tmp_path / "conf", "-w", str(saved), **options) as mitmdump:
            assert (await http_get(mitmdump.port, origin.url())).status == 200
            line = rf"<< 200 .*\n   direct 127\.0\.0\.1:{origin.port} IPv4, rule out"
            await mitmdump.wait_for_log(line)
        status, said = await Mitmdump(
            tmp_path / "conf", "-n", "-r", str(saved), **options
        ).run_to_exit()
    assert status == 0
    assert re.search(line, said)
