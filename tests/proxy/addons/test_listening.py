"""Mitmproxy's own listeners: those of this moment, while they are started and stopped."""

from pathlib import Path

from mitmproxy import ctx, options
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.mode_specs import ProxyMode

from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.listening import OwnListeners
from egress_policy.proxy.addons.named import find
from tests.helpers.mitm import Mitm
from tests.helpers.ports import free_port
from tests.helpers.scene import egress


async def test_listeners_are_those_of_this_moment_while_an_update_runs_too(tmp_path: Path) -> None:
    async with Mitm(tmp_path) as mitm:
        own, proxyserver = OwnListeners(), find(Proxyserver)
        assert proxyserver
        seen = []

        async def look() -> None:
            seen.append([*own()] == proxyserver.listen_addrs())

        proxyserver.servers.changed.connect(look)
        (kept,) = (place[1] for place in own())
        assert own() == own() == proxyserver.listen_addrs()
        modes = list(ctx.options.mode)
        more = [ProxyMode.parse(f"regular@127.0.0.1:{free_port()}") for _ in range(2)]
        for wanted in (more[:1], more, more[1:], []):
            await proxyserver.servers.update([*map(ProxyMode.parse, modes), *wanted])
            assert own() == proxyserver.listen_addrs()
            ports = {mode.custom_listen_port for mode in wanted}
            assert {place[1] for place in own()} == {kept, *ports}
        assert seen == [True] * len(seen)
        assert len(seen) >= 8  # before and after each change
        assert mitm.port == kept


async def test_page_of_mitmweb_is_a_listener(tmp_path: Path) -> None:
    async with Mitm(tmp_path):
        assert isinstance(ctx.options, options.Options)
        ctx.options.add_option("web_host", str, "127.0.0.1", "")
        ctx.options.add_option("web_port", int, 8081, "")
        assert ("127.0.0.1", 8081) in OwnListeners()()


async def test_places_for_clients_are_those_of_http_proxies(tmp_path: Path) -> None:
    modes = ("regular", "socks5", "upstream:http://192.0.2.1:1", "reverse:http://192.0.2.1")
    async with egress(tmp_path, mode=modes) as mitm:
        config = find(EgressConfig)
        assert config
        status = config.management.status()
        assert status.proxy_listen == tuple(f"127.0.0.1:{mitm.ports[at]}" for at in (0, 2))
        await mitm.master.addons.get("proxyserver").servers.update([])
        assert config.management.status().proxy_listen == ()
