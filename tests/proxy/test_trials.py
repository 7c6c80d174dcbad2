"""The one trial of a half-open circuit is free again as soon as nothing is dialled for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from egress_policy.management.management import Management
from egress_policy.model.decision import Egress
from egress_policy.policy.fault import Cause
from egress_policy.policy.health import Health, circuit
from egress_policy.policy.hop import Outcome, broken
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from egress_policy.proxy.questions import FlowRequest, ask
from tests.helpers.client_paths import origin_for
from tests.helpers.clients import ConnectRefused, connect, http_get, session
from tests.helpers.lab import V4, refusal_in
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Origin
from tests.helpers.proxies import LabProxy, entry, make
from tests.helpers.scene import egress, reload_policy, write_policy

WAYS = ["http", "https eager", "https lazy"]
ways = pytest.mark.parametrize("way", WAYS)
USE = {"use": "exit"}
SPARED = {"hosts": ["spared.test"], **USE}


@dataclass
class Tried:
    """A proxy whose circuit waits for a trial after ``opens``, and whose name is looked up when
    ``gate`` is set."""

    mitm: Mitm
    proxy: LabProxy
    nameserver: Nameserver
    gate: asyncio.Event
    target: Origin
    edit: Any

    @property
    def health(self) -> Health:
        return self._policy.router.standing.health

    @property
    def egress(self) -> Egress:
        exit_ = self._policy.in_force.snapshot.proxies["exit"]
        return Egress(exit_, exit_.family)

    @property
    def _policy(self) -> Management:
        config = find(EgressConfig)
        assert config
        return config.management

    @property
    def is_tried(self) -> bool:
        return self.health.state(self.egress).trial

    def opens(self) -> None:
        clock = self._policy.router.clock
        for _ in range(circuit.IN_A_ROW):
            now, failure = clock(), broken("it answers garbage", Cause.BROKEN)
            outcome = Outcome("attempt", V4, failure, now, now, 0.001)
            self.health.report(self.egress, ("origin.test", 443), "", outcome)
        assert self.health.state(self.egress).state == "half-open"
        assert not self.is_tried

    async def is_free(self, *, served: bool = True) -> None:
        """Nothing is being tried any more, and the next flow may be the trial."""
        await self.mitm.until(lambda: not self.is_tried)
        assert self.health.state(self.egress).state == "half-open"
        self.gate.set()
        answer = await http_get(self.mitm.port, self.target.url("spared.test"))
        assert answer.status == (200 if served else 503)
        assert not self.is_tried


@asynccontextmanager
async def half_open(
    folder: Path,
    patch: pytest.MonkeyPatch,
    way: str,
    kind: str = "socks5",
    reply: str = "NOERROR",
    **options: Any,
) -> AsyncIterator[Tried]:
    patch.setattr(circuit, "FIRST_REST", 0.0)
    gate = asyncio.Event()
    records = {("proxy.test", "A"): Reply([V4], gate=gate, rcode=reply)}
    async with make(kind) as proxy, Nameserver(records) as nameserver, Origin() as target:
        proxy.resolve = {"spared.test": target.address}
        exit_ = entry(kind, proxy, host="proxy.test", family="ipv4")

        async def edit(*rules: dict[str, Any]) -> None:
            write_policy(folder / "policy.yaml", proxies=[exit_], rules=list(rules))
            await reload_policy()

        strategy = "lazy" if "lazy" in way else "eager"
        options = {"connection_strategy": strategy, **options}
        rules: list[dict[str, Any]] = [SPARED, USE]
        async with egress(
            folder, proxies=[exit_], rules=rules, dns=nameserver.port, **options
        ) as mitm:
            yield Tried(mitm, proxy, nameserver, gate, target, edit)


class Notes:
    def request(self, flow: http.HTTPFlow) -> None:
        self.flow = flow


def url_of(way: str) -> str:
    return f"{'http' if way == 'http' else 'https'}://origin.test/"


@ways
@pytest.mark.parametrize("end", ["client leaves", "rule edited", "look-up fails", "killed"])
async def test_a_choice_that_ends_during_its_look_up_gives_the_trial_back(
    end: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = "SERVFAIL" if end == "look-up fails" else "NOERROR"
    async with half_open(tmp_path, monkeypatch, way, reply=reply) as place:
        place.opens()
        place.mitm.master.addons.add(notes := Notes())
        waiting = asyncio.create_task(http_get(place.mitm.port, url_of(way), ca=place.mitm.ca_cert))
        await place.nameserver.arrived.wait()
        if end == "client leaves":
            waiting.cancel()
            await place.mitm.until(lambda: not place.mitm.clients)
        elif end == "rule edited":
            await place.edit(SPARED, {"use": "refuse"})
        elif end == "killed" and "eager" in way:  # no request has come yet
            waiting.cancel()
        elif end == "killed":
            notes.flow.kill()
        place.gate.set()
        await asyncio.gather(waiting, return_exceptions=True)
        await place.is_free(served=reply == "NOERROR")


@ways
async def test_a_request_over_an_open_connection_is_no_trial(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        origin_for(way != "http") as origin,
        half_open(tmp_path, monkeypatch, way) as place,
    ):
        place.gate.set()
        place.proxy.resolve["origin.test"] = origin.address
        url = origin.url("origin.test")
        async with session(place.mitm.port, url, place.mitm.ca_cert) as client:
            assert (await client.get()).status == 200
            place.opens()
            assert (await client.get()).status == 200
            assert origin.accepted == 1
            await place.is_free()


class Answers:
    def http_connect(self, flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(418)


async def test_a_connect_that_another_addon_answers_is_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"ignore_hosts": ["origin.test"]}
    async with half_open(tmp_path, monkeypatch, "https lazy", **options) as place:
        place.opens()
        place.gate.set()
        place.mitm.master.addons.add(Answers())
        with pytest.raises(ConnectRefused):
            async with connect(place.mitm.port, "origin.test", 443):
                pass
        await place.is_free()


async def test_a_tunnel_after_its_own_question_is_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"ignore_hosts": ["origin.test"]}
    async with half_open(tmp_path, monkeypatch, "https lazy", **options) as place:
        place.opens()
        place.gate.set()
        place.proxy.resolve["origin.test"] = place.target.address
        async with connect(place.mitm.port, "origin.test", 443) as tunnel:
            await tunnel.send(b"x")
            await place.proxy.until(lambda: place.proxy.tunnels)
        await place.is_free()


class EditsLate(Notes):
    """Redirects or kills a request once it has a connection."""

    def __init__(self, end: str) -> None:
        self.end = end

    def server_connected(self, _: ServerConnectionHookData) -> None:
        if self.end == "edited":
            self.flow.request.host = "refused.test"
        elif self.flow.killable:
            self.flow.kill()


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("end", ["edited", "killed"])
async def test_a_flow_that_does_not_use_its_connection_ends_the_trial(
    end: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with half_open(tmp_path, monkeypatch, "http", kind) as place:
        place.proxy.resolve["origin.test"] = place.target.address
        await place.edit({"hosts": ["refused.test"], "use": "refuse"}, SPARED, USE)
        place.opens()
        place.gate.set()
        late = EditsLate(end)
        place.mitm.master.addons.add(late)
        waiting = asyncio.create_task(http_get(place.mitm.port, place.target.url("origin.test")))
        await asyncio.gather(waiting, return_exceptions=True)
        if end == "edited":
            assert refusal_in(await waiting)["reason"] == "rule"
        place.mitm.master.addons.remove(late)
        await place.is_free()


async def test_a_dns_look_up_is_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"dns_name_servers": ["192.0.2.53"]}
    async with half_open(tmp_path, monkeypatch, "http", **options) as place:
        place.opens()
        ask(FlowRequest(tflow.tdnsflow()))
        await place.is_free()
