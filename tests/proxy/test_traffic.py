"""Bytes on the wire to an exit are counted for it, whatever way the flow takes."""

from pathlib import Path

import pytest

from egress_policy.management.management import Management
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.client_paths import WAYS, attempt, strategy_of, target_of
from tests.helpers.proxies import LabProxy, entry, make
from tests.helpers.scene import egress


def management() -> Management:
    config = find(EgressConfig)
    assert config
    return config.management


def carried(name: str) -> tuple[int, int]:
    past = management().history.exits()[name]
    return past.total("up"), past.total("down")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("type_", ["http", "socks5", "https", "direct"])
async def test_each_byte_to_an_exit_is_counted(type_: str, way: str, tmp_path: Path) -> None:
    proxy: LabProxy = make("http" if type_ == "direct" else type_)
    async with proxy, target_of(way) as target:
        rule = {"use": "direct" if type_ == "direct" else "exit"}
        more = {"host": "localhost"} if type_ == "https" else {}
        exit_ = entry("http" if type_ == "direct" else type_, proxy) | {"name": "exit"} | more
        async with egress(
            tmp_path, proxies=[exit_], rules=[rule], connection_strategy=strategy_of(way)
        ) as mitm:
            assert await attempt(mitm, way, target) == 200
            exit_of = target if type_ == "direct" else proxy
            up, down = carried("direct" if type_ == "direct" else "exit")
            https = way.startswith("https")
            if type_ == "https" or (type_ == "direct" and https):  # it keeps what TLS decrypts
                assert up > len(exit_of.received)
            elif https:  # TLS may be ending
                assert len(exit_of.received) <= up < len(exit_of.received) + 100
            else:
                assert up == len(exit_of.received)
            assert down > 3
        assert len(management().history.exits()) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_flow_goes_on_where_its_bytes_cannot_be_counted(way: str, tmp_path: Path) -> None:
    def fail(up: int, down: int) -> None:
        raise RuntimeError("no count")

    async with make("http") as proxy, target_of(way) as target:
        async with egress(
            tmp_path,
            proxies=[entry("http", proxy) | {"name": "exit"}],
            rules=[{"use": "exit"}],
            connection_strategy=strategy_of(way),
            expect_errors=True,
        ) as mitm:
            management().router.meter_of = lambda _: fail
            assert await attempt(mitm, way, target) == 200
        assert proxy.accepted == 1
