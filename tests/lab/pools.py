"""Stories of pools: a member, the uplink, a target or all members fail, and packets are counted."""

import asyncio
import contextlib
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from egress_policy.management.echo import KEY_FILE
from tests.e2e.mitmdump import EgressMitmdump
from tests.e2e.node import API_PLACE, ask_api
from tests.e2e.programs import PASSWORD, USERNAME
from tests.e2e.system import Program, find
from tests.helpers.clients import http_get
from tests.helpers.lying import CLAIMED, LyingProxy, invents_a_signature
from tests.helpers.ports import free_port
from tests.helpers.steady import SteadyClients
from tests.lab.hosts import DEAD, ORIGIN
from tests.lab.peers import EXIT, Kind
from tests.lab.stage import ANY, Stage, by_header, everything_by

KINDS: Sequence[Kind] = ("http", "https", "socks5", "http", "socks5")
"""Those of the five members."""
PACE = 0.1
"""Seconds from one request to the next."""
OUTAGE = 8.0
"""Seconds that the uplink is down."""
DEAD_FOR = 20.0
"""Seconds of load while all members are dead."""
_ECHO_PORT = 8088
OPENED, CLOSED = r"proxy {}: circuit opened", r"proxy {}: circuit closed"
"""What the log says of a proxy."""


def _member(stage: Stage, number: int, kind: Kind, address: str = "") -> dict[str, Any]:
    """A proxy at an address of its own, whose name has an address of the other family too."""
    entry = stage.proxy(f"m{number}", kind, "ipv4")
    zone: Any = stage.peers.names.zone
    zone[entry["host"], "A"] = [address or stage.address("ipv4", number)]
    zone[entry["host"], "AAAA"] = [stage.address("ipv6", number)]
    stage.questions.add((entry["host"], "A"))
    return entry


def _pool(entries: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A policy by which everything leaves by these."""
    names = [entry["name"] for entry in entries]
    pool = {"name": "homes", "members": names, "strategy": "round-robin", "failover": 1}
    return {"proxies": list(entries), "pools": [pool], "rules": [{"use": "homes"}], **more}


def _clients(stage: Stage, mitm: EgressMitmdump, *targets: str) -> SteadyClients:
    """Ask the origin, unless ``targets`` are given. Its address is a literal."""
    origin = stage.peers.origin
    urls = targets or (origin.url("http"), origin.url("https"))
    return SteadyClients(mitm.port, mitm.ca_cert, urls, PACE)


@contextlib.contextmanager
def _lost(stage: Stage, what: str) -> Iterator[None]:
    """Within this block the hosts of the proxies lose the packets that match, silently."""
    host, nft, table = stage.peers.hosts.proxies, find("nft"), f"lost{stage.number}"
    chain = f"chain input {{\ntype filter hook prerouting priority -300;\n{what} drop\n}}"
    host.run(nft, "-f", "-", stdin=f"table inet {table} {{\n{chain}\n}}\n")
    try:
        yield
    finally:
        host.run(nft, "delete", "table", "inet", table)


async def member_black_holed(stage: Stage) -> None:
    """No packet to a member is answered: clients see no error, it alone is blamed, and it comes
    back."""
    entries = [_member(stage, number, kind) for number, kind in enumerate(KINDS)]
    for number, entry in enumerate(entries):
        stage.allowed[stage.address("ipv4", number), entry["port"]] += ANY
    lost, name = stage.address("ipv4", 2), entries[2]["name"]
    async with stage.mitmdump(policy=_pool(entries), flow_detail=0) as mitm:
        with stage.peers.hosts.mitm.entered():
            clients = _clients(stage, mitm)
            async with clients.sending():
                await clients.until_peer(EXIT, 20)
            # Nothing is under way now: what a tunnel carries when its packets get lost is not sent
            # again.
            with _lost(stage, f"ip daddr {lost}"):
                async with clients.sending():
                    await mitm.wait_for_log(OPENED.format(name), 40)
                    await clients.until_peer(EXIT, 40)
            async with clients.sending():
                await mitm.wait_for_log(CLOSED.format(name), 40)
                before = stage.counters.read().syn[lost, entries[2]["port"]]
                await clients.until_peer(EXIT, 20)
            after = stage.counters.read().syn[lost, entries[2]["port"]]
    stage.expect("errors", clients.failed_since(0), [])
    stage.expect("is used again", after > before, True)
    stage.expect("blamed", set(re.findall(r"proxy (\w+): circuit opened", mitm.output)), {name})


async def uplink_down(stage: Stage) -> None:
    """For some seconds nothing comes through to any member: no circuit opens for that, and all are
    used again at once."""
    entries = [_member(stage, number, kind) for number, kind in enumerate(KINDS)]
    for number, entry in enumerate(entries):
        stage.allowed[stage.address("ipv4", number), entry["port"]] += ANY
    async with stage.mitmdump(policy=_pool(entries), flow_detail=0) as mitm:
        with stage.peers.hosts.mitm.entered():
            clients = _clients(stage, mitm)
            async with clients.sending():
                await clients.until_peer(EXIT, 20)
            async with clients.sending():
                with _lost(stage, 'iifname "link1"'):
                    await asyncio.sleep(OUTAGE)  # so long it lasts
                up = time.monotonic()
                await clients.until_peer(EXIT, 40)
            stage.expect("errors afterwards", clients.failed_since(up), [])
    reasons = {answer.reason for answer in clients.answers if answer.status != 200}
    stage.expect("reasons meanwhile", reasons - {"connect_timeout"}, set())
    stage.expect("blamed", re.findall(r"proxy (\w+): circuit opened", mitm.output), [])
    stage.expect("own network", "own network?" in mitm.output, True)


async def target_dead(stage: Stage) -> None:
    """A target refuses all connections: what five programs say of that blames none of them."""
    peers = stage.peers
    account = {"username": USERNAME, "password": PASSWORD}
    entries = [_member(stage, number, kind) for number, kind in enumerate(KINDS[:3])]
    places = [stage.address("ipv4", number) for number in range(3)]
    for program, kind in ((peers.squid, "http"), (peers.danted, "socks5")):
        entry = _member(stage, len(entries), "http" if kind == "http" else "socks5", program.host)
        entries.append({**entry, "port": program.port, **account})
        places.append(program.host)
    for place, entry in zip(places, entries, strict=True):
        stage.allowed[place, entry["port"]] += ANY
    dead = f"https://{ORIGIN.at(1, 'ipv4')}:{free_port()}/"
    async with stage.mitmdump(policy=_pool(entries), flow_detail=0) as mitm:
        with peers.hosts.mitm.entered():
            clients = _clients(stage, mitm, dead)
            async with clients.sending():
                await clients.until(lambda answer: answer.status == 503, 60)
            good = _clients(stage, mitm)
            async with good.sending():
                await good.until_peer(EXIT, 20)
    reasons = Counter(answer.reason for answer in clients.answers)
    stage.expect("reasons", set(reasons), {"handshake_failed"})
    stage.expect("errors of another target", good.failed_since(0), [])
    stage.expect("blamed", re.findall(r"proxy (\w+): circuit opened.*", mitm.output), [])


async def all_dead(stage: Stage) -> None:
    """All members of a pool are dead: clients are refused at once, and hardly a packet is sent. No
    other pool, no other family and no direct connection takes their place."""
    entries = [
        _member(stage, number, kind, DEAD.at(stage.number + number, "ipv4"))
        for number, kind in enumerate(KINDS)
    ]
    spare = stage.proxy("spare", "http", "ipv4")
    policy = _pool(entries, default="direct")
    policy["proxies"] = [*policy["proxies"], spare]
    policy["pools"] = [*policy["pools"], {"name": "others", "members": ["spare"]}]
    policy["rules"] = [*policy["rules"], {"use": "others"}]
    places = [
        (DEAD.at(stage.number + number, "ipv4"), entry["port"])
        for number, entry in enumerate(entries)
    ]
    async with stage.mitmdump(policy=policy, flow_detail=0) as mitm:
        with stage.peers.hosts.mitm.entered():
            clients = _clients(stage, mitm)
            async with clients.sending():
                # Until all circuits are open each is dialled a few times.
                with (
                    stage.dialling(Counter(dict.fromkeys(places, 10))),
                    contextlib.suppress(TimeoutError),  # the packets tell
                ):
                    await clients.until(lambda answer: answer.reason == "circuit_open", 5, 20)
                before, began = stage.counters.read(), time.monotonic()
                stage.allowed += Counter(dict.fromkeys(places, ANY))
                await asyncio.sleep(DEAD_FOR)
                sent = stage.counters.read().since(before).syn
                seconds = time.monotonic() - began
    late = [answer for answer in clients.since(began) if answer.reason != "circuit_open"]
    # One trial after the other may be a live request: its refusal says why the trial failed.
    stage.expect("other reasons", {a.reason for a in late} - {"connect_refused"}, set())
    stage.expect("statuses", {answer.status for answer in clients.since(began)}, {503})
    stage.expect(
        "retry-after", all(a.retry_after for a in clients.since(began) if a not in late), True
    )
    total = sum(sent[place] for place in places)
    print(f"all members of a pool dead: {total} TCP SYN packets in {seconds:.0f} s")
    if total > seconds:
        stage.leaked += sent


async def echo_forged(stage: Stage) -> None:
    """A proxy answers in the place of the echo, and names an exit that it does not have.

    Nobody believes it, and with ``exit_enforce`` nothing leaves by it. The echo is never asked
    directly.
    """
    key, host = stage.folder / "echo-key", stage.peers.hosts.mitm
    command = [sys.executable, "-m", "egress_policy.cli", "echo"]
    command += ["--listen", f"0.0.0.0:{_ECHO_PORT}", "--key-file", str(key)]
    echo = Program(stage.folder / "echo.log", command, _ECHO_PORT, ORIGIN.at(1, "ipv4"))
    liar = LyingProxy(invents_a_signature, host="0.0.0.0")  # on a host that only the lab has
    async with echo.behind(stage.peers.hosts.origin.prefix), liar:
        expected = {"exit_in": [f"{EXIT}/32", f"{CLAIMED}/32"], "exit_enforce": True}
        entries = [{**_member(stage, n, "http"), **expected} for n in range(2)]
        honest, lying = entries[0]["name"], entries[1]["name"]
        entries[1]["port"] = liar.port
        mitm = stage.mitmdump(
            policy=everything_by(*entries, rules=by_header(honest, lying)),
            egress_registry=stage.folder / "egress.db",
            egress_listen="127.0.0.1:0",
        )
        mitm.confdir.mkdir()
        (mitm.confdir / KEY_FILE).write_text(key.read_text())
        (mitm.confdir / KEY_FILE).chmod(0o600)
        with host.entered():
            async with mitm:
                place = (await mitm.wait_for_log(API_PLACE))[1]
                url = f"http://{ORIGIN.at(1, 'ipv4')}:{_ECHO_PORT}/"
                done = await ask_api(mitm, "PATCH", "/settings", place, echo={"ipv4": url})
                stage.expect("settings", done.status_code, 200)
                answer = await ask_api(mitm, "POST", "/exits/probe", place, proxies=[honest, lying])
                looks = {one["proxy"]: one for one in answer.json()["items"]}
                shown = await ask_api(mitm, "GET", f"/exits?proxy={lying}", place)
                origin = stage.peers.origin.url("http")
                said = [
                    (await http_get(mitm.port, origin, headers=[("x-exit", name)])).json
                    for name in (honest, lying)
                ]
    seen = [(looks[name]["ok"], looks[name]["address"]) for name in (honest, lying)]
    stage.expect("looks", seen, [(True, EXIT), (False, None)])
    stage.expect("known of the liar", shown.json()["items"][0]["exits"], [])
    stage.expect("by the honest one", said[0].get("peer"), EXIT)
    stage.expect("by the liar", said[1].get("reason"), "exit_unverified")
    for number, entry in enumerate(entries):
        # A look before a refusal, as the proxy has ``exit_enforce``, may be another one.
        stage.allowed[stage.address("ipv4", number), entry["port"]] += 4


POOL_STORIES = {
    "a member black-holed": member_black_holed,
    "uplink down for 8 s": uplink_down,
    "a dead target": target_dead,
    "all members of a pool dead": all_dead,
    "the echo forged by a proxy": echo_forged,
}
