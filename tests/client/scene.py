"""A proxy, and an origin that says what it saw, for the tests of the client."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from egress_policy.client.probe import ProbeLimits, ProbeResult, probe
from egress_policy.errors import Reason
from egress_policy.model.decision import LoopCheck, Route
from egress_policy.model.proxy import Proxy
from egress_policy.model.target_url import parse_target_url
from tests.helpers.certs import authority
from tests.helpers.lab import V4, tls_for
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy, LabProxy, Socks5Proxy
from tests.helpers.routes import route_by
from tests.helpers.server import LabServer

CREDENTIALS = ("alice", "s3cret")
SEEN = "198.51.100.9"
PATIENT, HASTY = ProbeLimits(60, 60, 60), ProbeLimits(0.3, 0.3, 60)


class EchoOrigin(Origin):
    """Says what it saw, as services for that do."""

    def describe(self, *args: Any, **more: Any) -> bytes:
        super().describe(*args, **more)
        return json.dumps({"ip": SEEN}).encode()


def trusting(_name: str) -> ssl.SSLContext:
    return authority().client_context(["http/1.1"])


def lab_proxy(type_: str, resolve: dict[str, tuple[str, int]], **fields: Any) -> LabProxy:
    if type_ == "socks5":
        return Socks5Proxy(resolve=resolve, **fields)
    tls = tls_for("proxy.test") if type_ == "https" else None
    return HttpProxy(resolve=resolve, tls=tls, **fields)


def route_to(
    server: LabServer,
    type_: str = "http",
    addresses: tuple[str, ...] = (V4,),
    target: str = "",
    loops: LoopCheck | None = None,
    **fields: Any,
) -> Route:
    stated = {"name": "dc", "type": type_, "host": "proxy.test", "port": server.port, **fields}
    host, _, port = target.rpartition(":")
    return route_by(Proxy.model_validate(stated), addresses, (host, int(port or 0)), loops)


async def probed(route: Route, url: str, limits: ProbeLimits = PATIENT) -> ProbeResult:
    asked = parse_target_url(url)
    target = route.target if route.target[1] else (asked.host, asked.port)
    return await probe(replace(route, target=target), asked, trusting, limits)


async def failed(route: Route, url: str, limits: ProbeLimits = PATIENT) -> tuple[Reason, str]:
    result = await probed(route, url, limits)
    assert result.refusal, result
    assert result.refusal.proxy == "dc"
    assert "s3cret" not in result.refusal.detail
    assert result.egress_ip is None
    return result.refusal.reason, result.refusal.detail


@contextlib.asynccontextmanager
async def scene(
    type_: str, tls: ssl.SSLContext | None = None, **fields: Any
) -> AsyncIterator[tuple[LabProxy, EchoOrigin]]:
    async with (
        EchoOrigin(tls=tls) as origin,
        lab_proxy(type_, {"origin.test": origin.address}, **fields) as proxy,
    ):
        yield proxy, origin
