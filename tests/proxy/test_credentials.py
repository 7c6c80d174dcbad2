"""Credentials reach only their own proxy: every peer keeps each byte that it receives, and all
bytes are searched.

Each proxy has its own account, and so has each of two egresses at one address. Whatever way a flow
takes, and however it ends, an account may appear only with its own proxy.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.helpers.clients import ConnectRefused, connect, http2_client, http_get, session, wire
from tests.helpers.lab import V4, request_to, tls_for, zone
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Http2Origin, Origin, TcpEcho, tls_context
from tests.helpers.proxies import Credentials, Faults, HttpProxy, LabProxy, Socks5Proxy
from tests.helpers.scene import egress, write_policy
from tests.helpers.server import LabServer

NAMES = ["forward", "twin", "tunnel", "tls", "socks", "other", "left", "right", "407", "dead"]
"""Egresses: ``twin`` has the address of ``forward``, ``left`` and ``right`` form a pool."""
GOOD = [*NAMES[:6], "pool"]
USES = [*GOOD, "407", "dead", "none"]
"""The names of flows. ``none`` has no account, and goes to the address of ``right``."""
MORE = {"tls": {"host": "proxy.test", "family": "ipv4"}, "tunnel": {"plain_http": "connect"}}


def account(name: str) -> tuple[str, str]:
    return f"user-of-{name}", f"p@ss/of:{name}?0123456789"


def spellings(name: str) -> Iterator[bytes]:
    """The forms of an account: literal, as in a URL, as in Basic (RFC 7617)."""
    username, password = account(name)
    basic = base64.b64encode(f"{username}:{password}".encode()).decode().rstrip("=")
    for text in (username, password, quote(password, safe=""), basic):
        yield text.encode()


def found_in(data: bytes | bytearray) -> set[str]:
    """The egresses whose account appears in ``data``."""
    return {name for name in NAMES if any(word in data for word in spellings(name))}


@dataclass
class CredentialsLab:
    """Peers, and all answers to clients in ``told``.

    ``by`` distinguishes flows: by ``host``, or, on shared connections, by a ``header``.
    """

    by: str
    proxies: dict[str, LabProxy]
    origins: dict[str, LabServer]
    folder: Path
    told: list[object]

    def entries(self) -> list[dict[str, Any]]:
        of_type = {"tls": "https", "socks": "socks5", "other": "socks5", "left": "socks5"}
        made = []
        for name, proxy in self.proxies.items():
            username, password = account(name)
            entry: dict[str, Any] = {"name": name, "type": of_type.get(name, "http")}
            entry |= {"host": V4, "port": proxy.port, "username": username, "password": password}
            made.append(entry | MORE.get(name, {}))
        nobody = {"name": "none", "host": V4, "port": self.proxies["right"].port}
        return [*made, nobody]

    def policy(self, uses: Iterable[str] = USES) -> dict[str, Any]:
        """Flows for the first of ``USES`` leave by the first of ``uses``, and so on."""
        pairs = list(zip(USES, uses, strict=True))
        rules: list[dict[str, Any]] = [{"hosts": [f"{name}.test"], "use": u} for name, u in pairs]
        if self.by == "header":
            rules += [{"filter": f'~hq "x-exit: {name}"', "use": use} for name, use in pairs]
        pool = {"name": "pool", "members": ["left", "right"], "strategy": "round-robin"}
        return {
            "proxies": self.entries(),
            "pools": [pool],
            "rules": rules,
            "default": "refuse",
        }

    def url(self, kind: str, use: str) -> str:
        origin = self.origins[kind]
        host = f"{use}.test" if self.by == "host" else origin.host
        return f"{'http' if kind == 'http' else 'https'}://{host}:{origin.port}/"

    def headers(self, use: str) -> dict[str, str]:
        return {"x-exit": use} if self.by == "header" else {}


@asynccontextmanager
async def lab(folder: Path, by: str) -> AsyncIterator[tuple[CredentialsLab, Mitm]]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        origins: dict[str, LabServer] = {
            "http": await enter(Origin()),
            "https": await enter(Origin(tls=tls_context("http/1.1"))),
            "http2": await enter(Http2Origin()),
            "tcp": await enter(TcpEcho()),
        }
        there = {f"{use}.test:{one.port}": one.address for use in USES for one in origins.values()}
        made: dict[str, LabProxy] = {
            "forward": HttpProxy(resolve=there),
            "tunnel": HttpProxy(resolve=there),
            "tls": HttpProxy(resolve=there, tls=tls_for("proxy.test")),
            "socks": Socks5Proxy(resolve=there, credentials=account("socks")),
            "other": Socks5Proxy(resolve=there, credentials=account("other")),
            "left": Socks5Proxy(resolve=there, credentials=account("left")),
            "right": HttpProxy(resolve=there),
            "407": HttpProxy(credentials=("somebody", "else")),
            "dead": HttpProxy(faults=Faults(reset="handshake")),
        }
        for proxy in made.values():
            await enter(proxy)
        made["twin"] = made["forward"]
        nameserver = await enter(Nameserver(zone("proxy.test")))
        under = CredentialsLab(by, {name: made[name] for name in NAMES}, origins, folder, [])
        mitm = await enter(
            egress(
                folder,
                **under.policy(),
                dns=nameserver.port,
                ssl_insecure=True,  # the origins have no certificates for all these names
                save_stream_file=str(folder / "saved.flow"),
                hardump=str(folder / "flows.har"),
            )
        )
        yield under, mitm


async def everything(under: CredentialsLab, mitm: Mitm) -> None:
    """All kinds of flows by all egresses, on shared connections if a header can distinguish
    them."""
    for kind in ("http", "https"):
        for use in USES:
            url, headers = under.url(kind, use), under.headers(use).items()
            under.told.append(await http_get(mitm.port, url, ca=mitm.ca_cert, headers=headers))
        if under.by == "header":
            async with session(mitm.port, under.url(kind, ""), mitm.ca_cert) as through:
                for use in GOOD * 2:
                    under.told.append(await through.get("/", under.headers(use).items()))
    async with http2_client(mitm.port, mitm.ca_cert) as client:
        for use in GOOD:  # the first opens the connection
            told = await answer(client, under.url("http2", use), under.headers(use))
            under.told.append(told)
        if under.by == "header":
            url = under.url("http2", "")
            asked = [answer(client, url, under.headers(use)) for use in USES * 2]
            under.told += await asyncio.gather(*asked)
    for use in USES:
        under.told.append(await tunnel(under, mitm, use))
        under.told.append(await web_socket(under, mitm, use))
    replayed = [request_to(under.url(kind, use)) for kind in ("http", "https") for use in USES]
    for one, use in zip(replayed, USES * 2, strict=True):
        one.request.headers.update(under.headers(use))
    mitm.master.commands.call("replay.client", replayed)
    async with asyncio.timeout(20):
        await mitm.master.addons.get("clientplayback").queue.join()
    under.told += [one.get_state() for one in replayed]


async def answer(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> object:
    try:
        answered = await client.get(url, headers=headers)
    except httpx.ProxyError as error:  # CONNECT was refused
        return str(error)
    return answered.headers, answered.content


async def tunnel(under: CredentialsLab, mitm: Mitm, use: str) -> object:
    try:
        async with connect(mitm.port, f"{use}.test", under.origins["tcp"].port) as through:
            await through.send(b"\x00raw")
            return await through.reader.read(100)
    except ConnectRefused as error:
        return error.answer


async def web_socket(under: CredentialsLab, mitm: Mitm, use: str) -> bytes:
    """Ask for a WebSocket, by this egress, at an origin that repeats what it receives."""
    host = f"{use}.test:{under.origins['tcp'].port}"
    async with wire(mitm.port) as client:
        await client.send(
            f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n".encode()
        )
        return await client.reader.read(65536)


def exchanged(under: CredentialsLab, uses: Iterable[str]) -> list[tuple[str, Credentials | None]]:
    """The requests to a proxy since the last call with an account of another egress than their own,
    as ``policy`` takes ``uses``. A CONNECT may not contain what distinguishes flows."""
    use_of = dict(zip(USES, uses, strict=True))
    found: list[tuple[str, Credentials | None]] = []
    for proxy in under.proxies.values():
        for request in proxy.requests:
            wanted = use_of.get(request.headers.get("x-exit", request.host.removesuffix(".test")))
            if wanted and request.credentials not in accounts_of(wanted):
                found.append((wanted, request.credentials))
        proxy.requests.clear()
    return found


def accounts_of(use: str) -> list[Credentials | None]:
    if use == "none":
        return [None]
    return [account(name) for name in (["left", "right"] if use == "pool" else [use])]


@pytest.mark.parametrize("by", ["host", "header"])
async def test_an_account_is_found_with_its_own_proxy_alone(by: str, tmp_path: Path) -> None:
    async with lab(tmp_path, by) as (under, mitm):
        await everything(under, mitm)
        assert exchanged(under, USES) == []
        # Everybody takes the egress of somebody else, and all of it happens once more.
        others = [*USES[1:], USES[0]]
        write_policy(tmp_path / "policy.yaml", **under.policy(others))
        await mitm.wait_for_log("reloaded")
        await everything(under, mitm)
        assert exchanged(under, others) == []
        mitm.options.update(save_stream_file=None)  # closes the file
        states = str([one.get_state() for one in (*mitm.flows, *mitm.connects)])
        logged = "\n".join(f"{one.getMessage()} {one.exc_info}" for one in mitm.logs)
    for name, proxy in under.proxies.items():
        own = {"forward", "twin"} if proxy is under.proxies["forward"] else {name}
        assert found_in(proxy.received) == own, name
    for name, origin in under.origins.items():
        assert origin.accepted, name
        assert found_in(origin.received) == set(), name
    decoded = under.origins["http2"].requests  # type: ignore[attr-defined]
    assert len(decoded) >= len(GOOD)
    written = [path for path in (tmp_path / "conf").iterdir() if path.is_file()]
    written += [tmp_path / "saved.flow", tmp_path / "flows.har"]
    shown = str(decoded), str(under.told), states, logged
    assert [path for path in written if found_in(path.read_bytes())] == []
    assert [text[:100] for text in shown if found_in(text.encode())] == []
