"""Another script sets an upstream proxy: it is overruled, with one warning."""

from pathlib import Path

import pytest

from tests.helpers.clients import http_get
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy
from tests.helpers.scene import egress

CHANGES_UPSTREAM = """
from mitmproxy.connection import Server
from mitmproxy.net.server_spec import ServerSpec

def request(flow):
    if flow.server_conn.timestamp_start is not None:
        flow.server_conn = Server(address=flow.server_conn.address)
    flow.server_conn.via = ServerSpec(("http", ("127.0.0.1", 9)))
"""
NOTES_AN_EXIT = """
def request(flow):
    flow.metadata["exit"] = "dc"
"""


def script(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("mode", ["regular", "upstream:http://127.0.0.1:7"])
async def test_a_script_that_sets_a_via_is_warned_of_once(mode: str, tmp_path: Path) -> None:
    innocent = script(tmp_path, "innocent.py", "def request(flow): pass\n")
    first = script(tmp_path, "first.py", CHANGES_UPSTREAM)
    second = script(tmp_path, "second.py", CHANGES_UPSTREAM)
    rules = [{"use": "direct"}]
    async with (
        Origin() as origin,
        egress(tmp_path, rules=rules, mode=[mode], scripts=[innocent]) as mitm,
    ):
        for scripts, told in (([], 0), ([first], 1), ([first, second], 2)):
            mitm.options.update(scripts=[innocent, *scripts])
            for path in (innocent, *scripts):
                await mitm.wait_for_log(f"Loading script {path}")
            for _ in range(3):
                assert (await http_get(mitm.port, origin.url())).status == 200
            assert len(mitm.warnings) == told
    one, both = mitm.warnings
    assert f"Egress: {first} sets flow.server_conn.via (to 127.0.0.1:9), which has no" in one
    assert f"Egress: {first}, {second} sets" in both


async def test_what_a_script_notes_of_a_flow_may_decide(tmp_path: Path) -> None:
    """As in docs/reference.md."""
    async with Origin() as origin, HttpProxy() as proxy:
        exits = [{"name": "dc", "host": proxy.host, "port": proxy.port}]
        rules = [{"filter": '~meta "^exit: dc$"', "use": "dc"}]
        noting = script(tmp_path, "exits.py", NOTES_AN_EXIT)
        async with egress(tmp_path, proxies=exits, rules=rules, scripts=[noting]) as mitm:
            assert (await http_get(mitm.port, origin.url())).status == 200
    assert proxy.accepted == 1
    assert mitm.warnings == []
