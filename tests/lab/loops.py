"""Stories of mitmproxy's own listeners: exits on its machine could reach them, and a firewall
redirects mitmproxy's own connections to them."""

import asyncio
import contextlib
import itertools
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from tests.e2e import programs
from tests.e2e.curl import curl
from tests.e2e.mitmdump import EgressMitmdump
from tests.e2e.node import API_PLACE
from tests.e2e.programs import PASSWORD, USERNAME
from tests.e2e.system import Program, find, open_sockets, with_files
from tests.helpers.clients import ConnectRefused, Response, connect, socks5, wire
from tests.helpers.ports import free_port
from tests.helpers.watch import poll
from tests.lab.counters import Place
from tests.lab.hosts import FAMILIES, ORIGIN, OWN, RECORD, Family
from tests.lab.stage import PATIENCE, Stage

_LITERALS = ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::")
_NAMES = ("localhost", "x.localhost", socket.gethostname(), "named.lab.test")
"""The names and addresses by which exits know the machine. The last one is in mitmproxy's hosts
file."""


async def own_listeners(stage: Stage) -> None:
    """No address, no name of the machine and no exit on it leads a flow to a listener of mitmproxy
    or its management API."""
    table = stage.folder / "exit-hosts"
    table.write_text("".join(f"127.0.0.1 {name}\n::1 {name}\n" for name in _NAMES))
    here = [*stage.peers.hosts.mitm.prefix, *with_files({"/etc/hosts": table})]
    exits = {
        "http": programs.tinyproxy(stage.folder, "0.0.0.0", "::", exit_=""),
        "socks5": programs.microsocks(stage.folder, "::", exit_=""),
    }
    async with AsyncExitStack() as stack:
        for program in exits.values():
            program.host = OWN["ipv4"][0]  # whether it listens is asked from another host
            await stack.enter_async_context(program.behind(here))
        for family in FAMILIES:
            await _ask_for_listeners(stage, exits, family)


async def _ask_for_listeners(stage: Stage, exits: Mapping[str, Program], family: Family) -> None:
    """With a management API at every address of ``family``."""
    proxies = [
        {"name": name, "type": name, "host": "127.0.0.1", "port": program.port}
        | ({"username": USERNAME, "password": PASSWORD} if name == "socks5" else {})
        for name, program in exits.items()
    ]
    known = [*_LITERALS, *OWN["ipv4"], *OWN["ipv6"], *_NAMES]
    rules = [({"use": name}, known) for name in exits]
    rules += [
        ({"use": name, "target_family": of}, [_resolved_here(stage, of)])
        for name, of in itertools.product(exits, FAMILIES)
    ]
    # They are told apart by the address that a client asks from.
    asked = {f"127.3.0.{number}": rule for number, rule in enumerate(rules, 1)}
    port, socks_port = free_port(), free_port()
    async with stage.mitmdump(
        policy={
            "proxies": proxies,
            "rules": [{"clients": [client], **rule} for client, (rule, _) in asked.items()],
            "default": "refuse",
        },
        hosts={_NAMES[-1]: ["127.0.0.1", "::1"]},
        mode=[f"regular@{port}", f"socks5@{socks_port}"],
        listen_host="",
        egress_listen="0.0.0.0:0" if family == "ipv4" else "[::]:0",
    ) as mitm:
        api = int((await mitm.wait_for_log(API_PLACE))[1].rpartition(":")[2])
        await _reach_without_mitmproxy(stage, exits, family, api)
        of_clients = Counter[Place]()
        with stage.peers.hosts.mitm.entered(), stage.dialling_itself(of_clients):
            for client, (_, hosts) in asked.items():
                for place in itertools.product(hosts, (port, socks_port, api)):
                    of_clients.update({("127.0.0.1", port): 2, ("127.0.0.1", socks_port): 1})
                    async with asyncio.timeout(PATIENCE):
                        outcomes = (
                            await _forwarded(port, place, client),
                            await _connected(port, place, client),
                            await _by_socks5(socks_port, place, client),
                        )
                    # All that a SOCKS5 client is told is that it is closed.
                    assert set(outcomes) <= {"loop", "closed"}, f"{client} {place}: {outcomes}"


def _resolved_here(stage: Stage, family: Family) -> str:
    """A name that only DNS maps to mitmproxy's machine, in one family."""
    name = f"home-{family}.{stage.name}"
    zone: Any = stage.peers.names.zone
    zone[name, RECORD[family]] = [OWN[family][0]]
    stage.questions.add((name, RECORD[family]))
    return name


async def _reach_without_mitmproxy(
    stage: Stage, exits: Mapping[str, Program], family: Family, api: int
) -> None:
    """The exits do reach the API if they are asked without mitmproxy in front of them."""
    for name, program in exits.items():
        place = f"127.0.0.1:{program.port}"
        way = ["-x", f"http://{place}"]
        if name == "socks5":
            way = ["-x", f"socks5h://{place}", "--proxy-user", f"{USERNAME}:{PASSWORD}"]
        for host in OWN[family]:
            url = f"http://{_authority((host, api))}/healthz"
            answer = await curl(url, *way, prefix=stage.peers.hosts.mitm.prefix)
            stage.expect(f"{name} alone, {url}", answer.status, 200)


# -- ways to ask for a place: what comes of it


async def _forwarded(port: int, place: Place, source: str) -> str:
    async with wire(port, source=source) as proxy:
        authority = _authority(place)
        return _outcome(await proxy.request("GET", f"http://{authority}/healthz", authority))


async def _connected(port: int, place: Place, source: str) -> str:
    try:
        async with connect(port, *place, source=source) as tunnel:
            return _outcome(await tunnel.request("GET", "/healthz", _authority(place)))
    except ConnectRefused as refused:
        return _outcome(refused.answer)


async def _by_socks5(port: int, place: Place, source: str) -> str:
    try:
        async with socks5(port, *place, source=source) as tunnel:
            return _outcome(await tunnel.request("GET", "/healthz", _authority(place)))
    except ConnectionError:
        return "closed"


def _outcome(answer: Response) -> str:
    reason = re.search(r'details="(\w+)"', answer.headers.get("proxy-status", ""))
    return reason[1] if reason else f"status {answer.status}"


def _authority(place: Place) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- what the firewall sends back


async def sent_back(stage: Stage) -> None:
    """A firewall redirects all traffic from the machine, also mitmproxy's own connections, to a
    port of mitmproxy: no loop arises, and nothing goes on after its client has left."""
    exits = [stage.proxy("http", family="ipv4"), stage.proxy("socks5", "socks5")]
    hops = {entry["name"]: stage.way(entry)[0] for entry in exits}
    stage.questions.update(stage.way(entry)[1] for entry in exits)
    uses: list[dict[str, str]] = [{"use": "direct"}, *({"use": name} for name in hops)]
    uses += [{"use": "direct", "family": family} for family in FAMILIES]
    rules, asked, dialled = [], Counter[Place](), Counter[Place]()
    origin = stage.peers.origin
    for number, use in enumerate(uses):  # told apart by the address that is asked for
        target = ORIGIN.at(stage.number + number, "ipv6" if "ipv6" in use.values() else "ipv4")
        rules.append({"hosts": [target], **use})
        for port in (origin.port, origin.tls_port):
            asked[target, port] += 1
            # Once a request: for TLS these are a CONNECT and the one in it.
            dialled[hops.get(use["use"], (target, port))] += 1 if port == origin.port else 2
    regular, transparent = free_port(), free_port()
    async with stage.mitmdump(
        policy={"proxies": exits, "rules": rules, "default": "refuse"},
        mode=[f"regular@{regular}", f"transparent@{transparent}"],
        listen_host="",
    ) as mitm:
        proxy = ("-x", f"http://127.0.0.1:{regular}")
        sockets = open_sockets(mitm._process.pid)
        with stage.dialling(dialled):
            stage.expect("before", await _statuses(stage, asked, *proxy), {200})
        for port in (regular, transparent):
            with _redirected(stage, dialled, port), stage.dialling(dialled):
                statuses = await _statuses(stage, asked, *proxy)
                stage.expect(f"sent back to {port}", statuses & {200}, set())
                await _settled(mitm, sockets)
        everything = dialled + asked  # what clients dial is redirected too
        # Before a request comes it may be dialled for too: as soon as the client is there.
        with _redirected(stage, everything, transparent), stage.dialling(dialled + everything):
            stage.expect("redirected", await _statuses(stage, asked) & {200}, set())
            await _settled(mitm, sockets)
        with _redirected(stage, everything, transparent), stage.dialling(everything):
            with stage.peers.hosts.mitm.entered():
                for host, port in asked:
                    async with wire(port, host):
                        pass  # it says nothing, and leaves
            await _settled(mitm, sockets)


@contextlib.contextmanager
def _redirected(stage: Stage, places: Iterable[Place], port: int) -> Iterator[None]:
    """Redirect what mitmproxy's host sends to these ports to its own ``port``."""
    host, nft = stage.peers.hosts.mitm, find("nft")
    ports = ", ".join({str(port) for _, port in places})
    rules = f"type nat hook output priority -100; tcp dport {{ {ports} }} redirect to :{port};"
    host.run(nft, "-f", "-", stdin=f"table inet back {{ chain output {{ {rules} }}; }}\n")
    try:
        yield
    finally:
        host.run(nft, "delete", "table", "inet", "back")


async def _statuses(stage: Stage, places: Iterable[Place], *way: str) -> set[int]:
    """The outcomes of requests for these places on an origin that speaks TLS at one port."""
    found = set()
    for place in places:
        scheme = "https" if place[1] == stage.peers.origin.tls_port else "http"
        url = f"{scheme}://{_authority(place)}/"
        found.add((await curl(url, *way, "-k", prefix=stage.peers.hosts.mitm.prefix)).status)
    return found


async def _settled(mitm: EgressMitmdump, sockets: int) -> None:
    """Wait until nothing is under way: a loop that feeds itself would never end."""
    await poll(lambda: open_sockets(mitm._process.pid) <= sockets, PATIENCE)
