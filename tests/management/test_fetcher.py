"""A list comes by the way that was said, and by no other."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from egress_policy.client.fetch import FetchFailed
from egress_policy.management.fetcher import Fetcher, leads_inside
from egress_policy.management.management import Management
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.proxy import Proxy
from tests.client.scene import trusting
from tests.helpers.lab import zone
from tests.helpers.lists import ListServer, answer
from tests.helpers.management import hop, managed
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import tls_context
from tests.helpers.proxies import Socks5Proxy


@pytest.fixture
async def server() -> AsyncIterator[ListServer]:
    async with ListServer("a list") as server:
        yield server


@pytest.fixture
async def management(tmp_path: Path) -> AsyncIterator[Management]:
    records = {**zone("list.test"), ("v4.test", "A"): ["127.0.0.1"]}
    async with Nameserver(records) as names:
        dns = [f"{names.host}:{names.port}"]
        async with managed(tmp_path, registry=":memory:", dns=dns) as management:
            yield management


def fetcher(management: Management) -> Fetcher:
    return Fetcher(management.in_force, trusting)


async def test_list_comes_through_the_proxy_that_is_named(
    management: Management, server: ListServer
) -> None:
    async with Socks5Proxy(resolve={"list.test": server.address}) as proxy:
        await management.proxies.create(hop("one", host="127.0.0.1", port=proxy.port))
        found = await fetcher(management).fetch(server.url("list.test"), "one")
        assert found == b"a list"
        assert proxy.targets == [f"list.test:{server.port}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_list_comes_directly_where_that_is_said(
    management: Management, server: ListServer, host: str
) -> None:
    assert await fetcher(management).fetch(server.url(host), "direct") == b"a list"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (None, "there is none of that name"),
        ({"status": "inactive"}, "it is inactive"),
        ({"exit_in": ["192.0.2.0/24"], "exit_enforce": True}, "exit"),
        ({"host": "v4.test", "family": "ipv6"}, "no IPv6"),
    ],
)
async def test_proxy_that_cannot_be_used_fails_and_nothing_goes_directly(
    management: Management, server: ListServer, fields: dict[str, object] | None, why: str
) -> None:
    async with Socks5Proxy(resolve={"127.0.0.1": server.address}) as proxy:
        if fields is not None:
            made = {"host": "127.0.0.1", "port": proxy.port, **fields}
            await management.proxies.create(hop("one", **made))
        with pytest.raises(FetchFailed) as caught:
            await fetcher(management).fetch(server.url(), "one")
    assert why in str(caught.value)
    assert (server.accepted, proxy.accepted) == (0, 0)


@pytest.mark.parametrize(
    "location", ["/list", "//127.0.0.1:{port}/list", "http://127.0.0.1:{port}/list?x=1#y"]
)
async def test_redirect_is_followed_the_same_way(
    management: Management, server: ListServer, location: str
) -> None:
    moved = f"Location: {location.format(port=server.port)}"
    async with ListServer() as other, Socks5Proxy() as proxy:
        other.raw = answer("", moved.replace("Location: /list", f"Location: {server.url()}"),
                           status="301 Moved")  # fmt: skip
        await management.proxies.create(hop("one", host="127.0.0.1", port=proxy.port))
        assert await fetcher(management).fetch(other.url(), "one") == b"a list"
        assert proxy.accepted == 2


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("/again", "redirected 4 times"),
        ("ftp://127.0.0.1/", "its scheme must be http"),
        ("http://u:s3cret@127.0.0.1/", "leave out user and password"),
        ("http://[s3cret/", "where it was redirected to"),
    ],
)
async def test_redirect_that_leads_nowhere_ends(
    management: Management, server: ListServer, location: str, why: str
) -> None:
    server.raw = answer("", f"Location: {location}", status="302 Found")
    with pytest.raises(FetchFailed) as caught:
        await fetcher(management).fetch(server.url(), "direct")
    assert why in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert server.accepted <= 4


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "a.localhost", "10.0.0.1"])
async def test_redirect_through_a_proxy_never_names_a_local_host(
    management: Management, server: ListServer, host: str
) -> None:
    """The proxy may run on this machine, or in its network."""
    server.raw = answer("", f"Location: http://{host}:{server.port}/list", status="302 Found")
    async with Socks5Proxy(resolve={"list.test": server.address}) as proxy:
        await management.proxies.create(hop("one", host="127.0.0.1", port=proxy.port))
        with pytest.raises(FetchFailed, match="into a local network"):
            await fetcher(management).fetch(server.url("list.test"), "one")
        assert proxy.accepted == 1


async def test_redirect_never_leads_out_of_tls(management: Management) -> None:
    async with ListServer(tls=tls_context()) as server:
        server.raw = answer("", "Location: http://127.0.0.1/list", status="302 Found")
        with pytest.raises(FetchFailed, match="from https to http"):
            await fetcher(management).fetch(server.url(), "direct")


@pytest.mark.parametrize(
    ("before", "after", "proxy", "inside"),
    [
        (("8.8.8.8",), ("127.0.0.1",), False, True),
        (("2001:4860:4860::8888",), ("8.8.8.8", "10.0.0.1"), False, True),
        (("8.8.8.8",), ("169.254.169.254",), False, True),
        (("8.8.8.8",), ("1.1.1.1",), False, False),
        (("10.0.0.1",), ("127.0.0.1",), False, False),
        (("8.8.8.8", "10.0.0.1"), ("127.0.0.1",), False, True),
        (("10.0.0.1",), ("8.8.8.8",), False, False),
        (("8.8.8.8",), ("127.0.0.1",), True, False),
    ],
)
def test_redirect_never_leads_from_the_internet_into_a_local_network(
    before: tuple[str, ...], after: tuple[str, ...], proxy: bool, inside: bool
) -> None:
    egress = Egress(Proxy(name="p", host="127.0.0.1") if proxy else None)
    routes = (
        Route(Choice(egress), Pin(addresses, None), ("h", 80)) for addresses in (before, after)
    )
    assert leads_inside(*routes) is inside


async def test_certificate_is_checked(management: Management) -> None:
    async with ListServer("a list", tls=tls_context()) as server:
        with pytest.raises(FetchFailed, match="certificate"):
            await Fetcher(management.in_force).fetch(server.url(), "direct")
        assert await fetcher(management).fetch(server.url(), "direct") == b"a list"


async def test_settings_for_tls_that_cannot_be_had_send_nothing(management: Management) -> None:
    def none(_name: str) -> ssl.SSLContext:
        raise OSError("no authorities")

    async with ListServer("a list", tls=tls_context()) as server:
        with pytest.raises(FetchFailed, match="no authorities"):
            await Fetcher(management.in_force, none).fetch(server.url(), "direct")
        assert server.accepted == 0


async def test_own_listener_is_never_asked(management: Management, server: ListServer) -> None:
    management.router.listeners.of_api = (server.address,)
    with pytest.raises(FetchFailed, match="a listener of mitmproxy itself"):
        await fetcher(management).fetch(server.url("localhost"), "direct")
    assert server.accepted == 0
