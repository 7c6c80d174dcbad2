"""Looks at exits through real proxies, honest and lying, at a real echo."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from egress_policy.client.probe import ProbeResult
from egress_policy.errors import InvalidEntry, NotFound, Reason
from egress_policy.management.echo import KEY_FILE, EchoView, running_echo
from egress_policy.management.exit_looks import LOOK_AGAIN, ExitLooks
from egress_policy.management.exit_views import Look, ProxyExits
from egress_policy.management.exits import Exits
from egress_policy.management.known_exits import KnownExits
from egress_policy.management.management import Management
from egress_policy.management.prober import Prober
from egress_policy.model.decision import Egress
from egress_policy.model.settings import parse_listen
from egress_policy.model.target_url import parse_target_url
from tests.client.scene import SEEN, EchoOrigin
from tests.helpers import lying
from tests.helpers.certs import authority
from tests.helpers.clock import Clock
from tests.helpers.management import managed
from tests.helpers.origin import tls_context
from tests.helpers.proxies import HttpProxy, LabProxy, Socks5Proxy
from tests.helpers.server import LabServer

LIES = [
    (lying.invents, "not signed"),
    (lying.invents_a_signature, "changed"),
    (lying.changes_the_address, "changed"),
    (lying.asks_with_a_nonce_of_its_own, "another question"),
    (lying.hides_its_own_nonce, "changed"),
    (lying.drops_the_nonce, "not signed"),
]


@dataclass
class Place:
    management: Management
    echo: EchoView
    folder: Path

    async def make(self, server: LabServer, name: str = "dc", **fields: Any) -> None:
        made = {"name": name, "host": server.host, "port": server.port, **fields}
        kind = "socks5" if isinstance(server, Socks5Proxy) else "http"
        await self.management.proxies.create({"type": kind, **made})

    async def looked(self, *names: str) -> tuple[Look, ...]:
        return (await self.management.exit_looks.probe(names or ["dc"])).items

    async def shown(self, name: str = "dc") -> ProxyExits:
        (found,) = (await self.management.exits.list(proxy=name)).items
        return found

    async def ask(self, **urls: str | None) -> None:
        await self.management.settings.change({"echo": urls or None})


@contextlib.asynccontextmanager
async def place_in(folder: Path, key: str = KEY_FILE) -> AsyncIterator[Place]:
    """An echo for both families, named in the settings, whose key has that name."""
    async with (
        running_echo(parse_listen("[::]:0"), folder / key) as echo,
        managed(folder, registry=":memory:") as management,
    ):
        place = Place(management, echo, folder)
        port = echo.listen.rpartition(":")[2]
        await place.ask(ipv4=f"http://127.0.0.1:{port}/", ipv6=f"http://[::1]:{port}/ip")
        yield place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in(tmp_path) as found:
        yield found


@pytest.mark.parametrize("kind", [HttpProxy, Socks5Proxy])
@pytest.mark.parametrize("key", [KEY_FILE, "elsewhere"])
async def test_an_exit_is_seen_in_both_families(
    tmp_path: Path, key: str, kind: type[LabProxy]
) -> None:
    async with place_in(tmp_path, key) as place, kind() as proxy:
        await place.make(proxy)
        looks = await place.looked()
        found = [(one.proxy, one.family, one.ok, one.address, one.detail) for one in looks]
        assert found == [("dc", "ipv4", True, "127.0.0.1", ""), ("dc", "ipv6", True, "::1", "")]
        seen = [(one.address, one.source) for one in (await place.shown()).exits]
        assert seen == [("127.0.0.1", "echo"), ("::1", "echo")]


@pytest.mark.parametrize("kind", [lying.LyingProxy, lying.RedirectingProxy])
@pytest.mark.parametrize(("lie", "why"), LIES, ids=lambda value: getattr(value, "__name__", ""))
async def test_no_lie_is_believed(
    place: Place,
    caplog: pytest.LogCaptureFixture,
    kind: Callable[[lying.Lie], LabProxy],
    lie: lying.Lie,
    why: str,
) -> None:
    async with kind(lie) as proxy:
        await place.make(proxy, exit_in=["203.0.113.0/24"], exit_enforce=True)
        for _ in range(2):
            looks = await place.looked()
            assert [one.ok for one in looks] == [False, False]
            assert all(why in one.detail for one in looks)
    shown = await place.shown()
    assert shown.exits == ()
    assert "nobody has seen its exit" in shown.problem
    assert lying.CLAIMED not in caplog.text
    assert len([one for one in caplog.records if why in one.getMessage()]) == 1


async def test_an_answer_is_believed_once(place: Place) -> None:
    async with lying.LyingProxy(lying.Repeats()) as proxy:
        await place.make(proxy, exit_family="ipv4")
        assert [one.ok for one in await place.looked()] == [True]
        (look,) = await place.looked()
        assert not look.ok
        assert "repeats answers" in look.detail
    (seen,) = (await place.shown()).exits
    assert seen.observations == 1


async def test_without_a_key_a_lie_cannot_be_told(tmp_path: Path) -> None:
    async with place_in(tmp_path, "elsewhere") as place, lying.LyingProxy(lying.invents) as proxy:
        await place.make(proxy)
        assert {one.address for one in await place.looked()} == {lying.CLAIMED}


async def test_a_key_that_cannot_be_used_is_not_the_lack_of_one(place: Place) -> None:
    async with HttpProxy() as proxy:
        await place.make(proxy)
        (place.folder / KEY_FILE).chmod(0o644)
        with pytest.raises(InvalidEntry, match="mode 0600"):
            await place.looked()
        assert proxy.accepted == 0


async def test_a_key_counts_from_the_moment_it_is_there(tmp_path: Path) -> None:
    async with place_in(tmp_path, "elsewhere") as place, HttpProxy() as proxy:
        await place.make(proxy, exit_family="ipv4")
        assert (await place.looked())[0].ok
        (tmp_path / "elsewhere").rename(tmp_path / KEY_FILE)
        assert (await place.looked())[0].ok
        (tmp_path / KEY_FILE).write_text("another key, which the echo does not have")
        assert not (await place.looked())[0].ok


async def test_nobody_is_asked_unless_an_echo_is_set(place: Place) -> None:
    await place.ask()
    async with HttpProxy() as proxy:
        await place.make(proxy)
        with pytest.raises(InvalidEntry, match="settings --set-echo-ipv4"):
            await place.looked()
        assert proxy.accepted == 0


async def test_only_the_family_of_the_exit_is_asked_for(place: Place) -> None:
    port = place.echo.listen.rpartition(":")[2]
    await place.ask(ipv4=f"http://127.0.0.1:{port}/")
    async with HttpProxy() as proxy:
        await place.make(proxy, exit_family="ipv6")
        await place.make(proxy, "second", target_family="ipv4")
        looks = await place.looked("dc", "second")
        found = [(one.proxy, one.family, one.ok) for one in looks]
        assert found == [("dc", "ipv6", False), ("second", "ipv4", True)]
        assert "no echo is set for ipv6" in looks[0].detail


async def test_a_look_that_fails_is_no_observation(place: Place) -> None:
    async with HttpProxy() as proxy:
        await place.make(proxy)
        assert all(one.ok for one in await place.looked())
        proxy.status = 403
        looks = await place.looked()
        assert [(one.ok, one.address) for one in looks] == [(False, None)] * 2
        assert all("403" in one.detail for one in looks)
    assert [one.observations for one in (await place.shown()).exits] == [1, 1]
    with pytest.raises(NotFound):
        await place.looked("nobody")


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("target", ["plain", "checked", "not checked"])
async def test_a_test_of_a_proxy_is_a_look_unless_the_proxy_may_have_answered(
    tmp_path: Path, target: str, signed: bool
) -> None:
    certificate = None if target == "plain" else tls_context()

    def tls(_: str) -> ssl.SSLContext:
        context = authority().client_context(["http/1.1"])
        if target == "not checked":  # as mitmproxy's ssl_insecure has it
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    async with (
        place_in(tmp_path, KEY_FILE if signed else "elsewhere") as place,
        EchoOrigin(tls=certificate) as origin,
        HttpProxy(resolve={"origin.test": origin.address}) as proxy,
    ):
        await place.make(proxy)
        in_force, looks = place.management.in_force, place.management.exit_looks
        prober = Prober(in_force, tls, on_seen=looks.tested)
        egress = Egress(in_force.snapshot.proxies["dc"])
        url = parse_target_url(origin.url("origin.test"))
        assert (await prober.probe(egress, url)).egress_ip == SEEN
        seen = [(one.address, one.source) for one in (await place.shown()).exits]
        counts = target == "checked" or not signed
        assert seen == ([(SEEN, "test")] if counts else [])


async def test_a_test_of_a_person_is_a_look(tmp_path: Path) -> None:
    async with (
        place_in(tmp_path, "elsewhere") as place,
        EchoOrigin() as origin,
        HttpProxy(resolve={"origin.test": origin.address}) as proxy,
    ):
        await place.make(proxy)
        await place.management.settings.change({"test_url": origin.url("origin.test")})
        assert (await place.management.probes.test("dc")).egress_ip == SEEN
        assert [one.address for one in (await place.shown()).exits] == [SEEN]


async def test_a_look_that_goes_wrong_spoils_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def probe(_: Prober, egress: Egress, *rest: Any, **more: Any) -> ProbeResult:
        if egress.name == "bad":
            raise RuntimeError("unexpected")
        return ProbeResult(status=200, egress_ip=SEEN)

    monkeypatch.setattr(Prober, "probe", probe)
    for name in ("bad", "good"):
        await place.management.proxies.create({"name": name, "host": "192.0.2.1"})
    looks = await place.looked("bad", "good")
    assert [one.ok for one in looks] == [False, False, True, True]
    assert "see the log" in looks[0].detail
    assert "unexpected" in caplog.text


# -- looking again


async def test_what_is_enforced_is_looked_at_before_it_is_too_old(place: Place) -> None:
    management, clock = place.management, Clock()
    in_force = management.in_force
    known = KnownExits(in_force, management.journal, clock)
    exits = Exits(in_force, known, lambda key: key, clock)
    looks = ExitLooks(in_force, Prober(in_force), known, exits, clock)
    looks.use_key(place.folder / KEY_FILE)

    def reason() -> Reason | None:
        proxy = in_force.snapshot.proxies["dc"]
        refusal = known.exit_refusal(Egress(proxy, proxy.family))
        return refusal.reason if refusal else None

    async with HttpProxy() as proxy:
        await place.make(proxy, exit_enforce=True, exit_family="ipv4")
        await place.make(proxy, "not-enforced", exit_family="ipv4")
        await place.make(proxy, "off", exit_enforce=True, exit_family="ipv4", status="inactive")
        assert reason() is Reason.EXIT_UNVERIFIED
        await looks.look_again()
        assert (reason(), proxy.accepted) == (None, 1)
        clock.now += LOOK_AGAIN - 1
        await looks.look_again()
        assert proxy.accepted == 1
        clock.now += 1
        proxy.status = 500
        for _ in range(3):
            await looks.look_again()
        assert (reason(), proxy.accepted) == (None, 2), "and not more often than once a minute"
        clock.now += LOOK_AGAIN
        proxy.status = None
        assert reason() is Reason.EXIT_UNVERIFIED
        await looks.look_again()
        assert reason() is None


async def test_a_running_management_looks_by_itself(tmp_path: Path) -> None:
    listen = parse_listen("127.0.0.1:0")
    async with running_echo(listen, tmp_path / KEY_FILE) as echo, HttpProxy() as proxy:
        async with managed(tmp_path) as management:
            made = {"name": "dc", "host": "127.0.0.1", "port": proxy.port}
            await management.settings.change({"echo": {"ipv4": echo.ipv4}})
            await management.proxies.create({**made, "exit_family": "ipv4", "exit_enforce": True})
        async with managed(tmp_path) as management:
            seen, note = asyncio.Event(), management.known_exits.seen

            def noting(*given: Any) -> None:
                note(*given)
                seen.set()

            management.known_exits.seen = noting  # type: ignore[method-assign,assignment]
            async with asyncio.timeout(10):
                await seen.wait()
            egress = Egress(management.in_force.snapshot.proxies["dc"])
            assert management.known_exits.exit_refusal(egress) is None
