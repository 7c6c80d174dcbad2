"""Stories of a running mitmproxy: peers die, policies change, scripts break. Each story limits the
places that may be dialled and the questions that DNS may get, as a whole and in each phase between
two edits. Any other dial or question is a leak."""

import asyncio
import base64
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
from dnslib import QTYPE, RD, RR, DNSRecord

from egress_policy.registry.registry import Registry
from egress_policy.registry.secrets import load_key
from tests.e2e import programs
from tests.e2e.mitmdump import read_http
from tests.e2e.node import API_PLACE
from tests.e2e.programs import PASSWORD, USERNAME
from tests.e2e.system import Program
from tests.helpers.clients import http2_client, wire
from tests.helpers.http3 import http3_get
from tests.helpers.lab import WebSocket, request_to, save_flows, upgrade
from tests.helpers.mitm import SCRIPT
from tests.helpers.nameserver import Reply
from tests.helpers.origin import Http2Origin, WebSocketOrigin
from tests.helpers.ports import free_port
from tests.helpers.registry import edits
from tests.helpers.scene import write_policy
from tests.lab import restarts
from tests.lab.counters import PacketCounters
from tests.lab.hosts import FAMILIES, NAMES_V4, ORIGIN, PROXIES, RECORD
from tests.lab.loops import own_listeners, sent_back
from tests.lab.peers import EXIT, ORIGIN_NAME, Peers
from tests.lab.pools import POOL_STORIES
from tests.lab.run import Result, on_mitm_host
from tests.lab.stage import ANY, PATIENCE, Stage, Story, by_header, everything_by, reloaded
from tests.lab.start_up import start_that_fails, start_that_refuses
from tests.lab.wiretap import Wiretap


async def other_programs(stage: Stage) -> None:
    """squid and danted, each pinned to IPv4, by names that have both families."""
    peers = stage.peers
    account = {"username": USERNAME, "password": PASSWORD}
    for program, kind in ((peers.squid, "http"), (peers.danted, "socks5")):
        zone: Any = peers.names.zone
        zone[f"{kind}.{stage.name}", "A"] = [program.host]
        zone[f"{kind}.{stage.name}", "AAAA"] = [stage.address("ipv6")]
        entry = {"name": "exit", "type": kind, "host": f"{kind}.{stage.name}", "family": "ipv4"}
        stage.questions.add((f"{kind}.{stage.name}", "A"))
        policy = everything_by({**entry, "port": program.port, **account})
        async with stage.mitmdump(policy=policy) as mitm:
            for url in (stage.url, stage.tls_url):
                stage.expect(f"{kind} {url}", await stage.get(mitm, url), "ok")
                stage.allowed[program.host, program.port] += 1


async def resolver_dies(stage: Stage) -> None:
    """An answer is used for its TTL; after that nothing is dialled."""
    names = programs.dnsmasq(
        stage.folder, f"exit.{stage.name},{stage.address('ipv4')},{stage.address('ipv6')},1"
    ).behind(stage.peers.hosts.names.prefix)
    config = stage.folder / "dnsmasq.conf"
    config.write_text(config.read_text().replace("127.0.0.1", NAMES_V4))
    names._listening = _answers(names)  # type: ignore[method-assign]
    proxy = stage.proxy()
    async with names:
        stage.nameservers.add((NAMES_V4, names.port))
        options = {"egress_dns": f"{NAMES_V4}:{names.port}"}
        async with stage.mitmdump(policy=everything_by(proxy), **options) as mitm:
            stage.expect("before", await stage.get(mitm), "ok")
            await names.end()
            await asyncio.sleep(1.5)  # the TTL is one second
            outcome = await stage.get(mitm)
            stage.expect("after", outcome in ("dns_failure", "dns_timeout"), True)
    # One that serves logs what it is asked: without AAAA in it the log tells nothing of A.
    asked = set(re.findall(r"query\[(\w+)\]", names.output))
    stage.expect("questions", asked, {"AAAA"})
    stage.allowed[stage.address("ipv6"), proxy["port"]] += 1


async def proxy_dies(stage: Stage) -> None:
    """Requests are refused while the proxy is gone, and served when it is back."""
    proxy = programs.tinyproxy(stage.folder, "::", exit_=EXIT)
    target = f"http://{stage.peers.origin.host}:{stage.peers.origin.port}/"
    entry = stage.proxy(port=proxy.port)
    async with stage.mitmdump(policy=everything_by(entry)) as mitm:
        for outcome in ("ok", "connect_refused", "ok"):
            if outcome == "ok":
                await proxy.__aenter__()
            stage.expect("asked", await stage.get(mitm, target), outcome)
            await proxy.end()
    stage.allow(entry, 3)


async def policy_edited(stage: Stage) -> None:
    """Under load: another proxy, a broken edit, the proxy switched off, no default."""
    one, two = stage.proxy("one"), stage.proxy("two", "socks5", "ipv4")
    path = stage.folder / "policy.yaml"
    async with stage.mitmdump(policy=everything_by(one)) as mitm, stage.load(mitm) as ended:
        with stage.phase(one):
            await stage.until(ended, "ok")
        write_policy(path, **everything_by(two))
        await reloaded(mitm)
        with stage.phase(two):
            await stage.until(ended, "ok")
        path.write_text("rules: [{use: direct\n")
        await mitm.wait_for_log("not reloaded, the last good one stays in force")
        with stage.phase(two):
            await stage.until(ended, "ok")
        write_policy(path, **everything_by({**two, "status": "inactive"}))
        await reloaded(mitm, 2)
        with stage.phase():
            await stage.until(ended, "disabled")
        write_policy(path, default="refuse")
        await reloaded(mitm, 3)
        with stage.phase():
            await stage.until(ended, "default")
        path.unlink()
        await mitm.wait_for_log("is gone")
        with stage.phase():
            await stage.until(ended, "default")
    for entry in (one, two):
        stage.allow(entry, ANY)


async def registry_edited(stage: Stage) -> None:
    """Under load, by another process: assigned, pinned to the other family, switched off, deleted
    by force."""
    database, key = stage.folder / "egress.db", {"EGRESS_KEY": "a key for the lab, long enough"}
    entry = stage.proxy()
    other = {**entry, "family": "ipv4"}
    registry = Registry.open(str(database), load_key(stage.folder, key))
    policy: dict[str, Any] = {"proxies": []}
    options = {
        "egress_registry": database,
        "egress_default": "refuse",
        "env": {**os.environ, **key},
    }
    try:
        async with stage.mitmdump(policy=policy, **options) as mitm, stage.load(mitm) as ended:
            await stage.until(ended, "default")
            made = edits(registry).proxies.create(entry)
            with stage.phase(entry):
                edits(registry).assignments.put("global", None, made.id)
                await stage.until(ended, "ok")
            edits(registry).proxies.update(made.id, {"family": other["family"]})
            await stage.until_dialled(other)
            with stage.phase(other):
                await stage.until(ended, "ok")
            edits(registry).proxies.update(made.id, {"status": "inactive"})
            await stage.until(ended, "disabled", 1)
            with stage.phase():
                await stage.until(ended, "disabled")
            edits(registry).proxies.delete(made.id, force=True)
            await stage.until(ended, "deleted", 1)
            with stage.phase():
                await stage.until(ended, "deleted")
    finally:
        registry.close()
    for one in (entry, other):
        stage.allow(one, ANY)


async def script_reloaded(stage: Stage) -> None:
    """Under load the script is touched, broken, mended and deleted."""
    script = stage.folder / "egress.py"
    shutil.copy(SCRIPT, script)
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    entry = stage.proxy()
    options: dict[str, Any] = {"script": script, "env": env, "egress_listen": "127.0.0.1:0"}
    mitm = stage.mitmdump(policy=everything_by(entry), **options)
    await mitm._launch()
    try:
        await mitm.wait_for_listener()
        async with stage.load(mitm) as ended:
            await stage.until(ended, "ok")
            for _ in range(3):
                mitm.lines.clear()
                os.utime(script)
                await mitm.wait_for_log("management API")
                await stage.until(ended, "ok")
            script.write_text("def broken(:\n")
            await mitm.wait_for_log("error in script")
            with stage.phase():
                await stage.until(ended, "error")
            shutil.copyfile(SCRIPT, script)
            await stage.until(ended, "ok")
            script.unlink()
            await mitm.wait_for_log("Un-loading script")
            with stage.phase():
                await stage.until(ended, "error")
    finally:
        await mitm._end()  # with a traceback in its log: that of the broken script
    stage.allow(entry, ANY)


async def api_restarted(stage: Stage) -> None:
    """Under load by three egresses, the management API moves again and again, and nothing else."""
    entries = [
        stage.proxy("one"),
        stage.proxy("two", family="ipv4"),
        stage.proxy("three", "socks5", "ipv4"),
    ]
    names = [entry["name"] for entry in entries]
    policy = everything_by(*entries, rules=by_header(*names))
    options: dict[str, Any] = {"egress_listen": restarts.PLACES[0], "flow_detail": 0}
    async with stage.mitmdump("-s", restarts.__file__, policy=policy, **options) as mitm:
        places = [(await mitm.wait_for_log(API_PLACE))[1]]
        stage.expect("API at first", await stage.api(mitm, places[0]), 200)
        async with stage.load(mitm, *names) as ended:
            for _ in range(6):
                for name in names:
                    await stage.until(ended, f"{name} ok", 2)
                mitm._process.send_signal(signal.SIGUSR1)
                await mitm.wait_for_log(rf"(?s)({API_PLACE}.*?){{{len(places) + 1}}}")
                places.append(re.findall(API_PLACE, mitm.output)[-1])
                stage.expect("API", await stage.api(mitm, places[-1]), 200)
                stage.expect("API where it was", await stage.api(mitm, places[-2]), 0)
            for name in names:
                await stage.until(ended, f"{name} ok")
        stage.expect("outcomes", set(ended), {f"{name} ok" for name in names})
        stage.expect("what no rule names", await stage.get(mitm), "default")
    for entry in entries:
        stage.allow(entry, ANY)


async def killed_and_started(stage: Stage) -> None:
    """SIGKILL under load, and a new start."""
    entry = stage.proxy()
    mitm = stage.mitmdump(policy=everything_by(entry))
    await mitm.__aenter__()
    async with stage.load(mitm) as ended:
        await stage.until(ended, "ok")
        mitm._process.send_signal(signal.SIGKILL)
        await mitm._process.wait()
    async with stage.mitmdump(policy=everything_by(entry)) as again:
        stage.expect("after", await stage.get(again), "ok")
    stage.allow(entry, ANY)


async def client_replay(stage: Stage) -> None:
    """Flows of a file, which name no egress, leave by the egress of their rule or not at all."""
    saved, again = stage.folder / "saved.flow", stage.folder / "again.flow"
    entry = stage.proxy("exit", "socks5", "ipv4")
    save_flows(
        saved, [request_to(stage.url), request_to(stage.tls_url), request_to("http://other.test/")]
    )
    policy = everything_by(entry, rules=[{"hosts": [ORIGIN_NAME], "use": "exit"}])
    mitm = stage.mitmdump("-C", str(saved), "-w", str(again), policy=policy)
    stage.expect("status", (await mitm.run_to_exit())[0], 0)
    codes = [one.response.status_code for one in read_http(again) if one.response]
    stage.expect("answers", sorted(codes), [200, 200, 503])
    stage.allow(entry, 2)


async def http2_streams(stage: Stage) -> None:
    """Streams of one HTTP/2 connection take three egresses, distinguished by a header."""
    entries = [
        stage.proxy("one"),
        stage.proxy("two", "socks5", "ipv4"),
        stage.proxy("three", "https"),
    ]
    rules = by_header(*(entry["name"] for entry in entries))
    async with stage.mitmdump(policy=everything_by(*entries, rules=rules)) as mitm:
        with stage.peers.hosts.mitm.entered():
            async with http2_client(mitm.port, mitm.ca_cert) as client:
                names = [entry["name"] for entry in entries] * 4
                asked = [client.get(stage.tls_url, headers={"x-exit": name}) for name in names]
                first = await asked.pop(0)  # opens the connection
                answers = [first, *await asyncio.gather(*asked)]
                last = await client.get(stage.tls_url)
    stage.expect("statuses", {answer.status_code for answer in answers}, {200})
    stage.expect("peers", {answer.json()["peer"] for answer in answers}, {EXIT})
    stage.expect("what no rule names", last.json().get("reason"), "default")
    for entry in entries:
        stage.allow(entry, 1)


async def credentials_tapped(stage: Stage) -> None:
    """Under load, across an edit and on one HTTP/2 connection, credentials appear only on the way
    to their own proxy, on all links of mitmproxy's host."""
    other = "an0ther:s3cret"
    squid = programs.squid(
        stage.folder, "::", {ORIGIN_NAME: stage.peers.origin.host}, other, exit_=EXIT
    )
    socks5 = stage.proxy("socks5", "socks5", "ipv4")
    http = stage.proxy("http", port=squid.port, username=USERNAME, password=other)
    entries, names = (socks5, http, stage.proxy("open")), ("one", "two", "three")
    uses = [entry["name"] for entry in entries]

    def policy(*used: str) -> dict[str, Any]:
        rules = [{**rule, "use": use} for rule, use in zip(by_header(*names), used, strict=True)]
        return everything_by(*entries, rules=rules)

    host = stage.peers.hosts.mitm
    async with squid, stage.mitmdump(policy=policy(*uses), flow_detail=0) as mitm:
        with Wiretap(host, "link1", "link2", "link3") as tap:
            async with stage.load(mitm, *names) as ended:
                for edits, shift in enumerate((1, 2, 0), 1):
                    for name in names:
                        await stage.until(ended, f"{name} ok", 5)
                    tap.read()
                    write_policy(
                        stage.folder / "policy.yaml", **policy(*uses[shift:], *uses[:shift])
                    )
                    await reloaded(mitm, edits)
            with host.entered():
                async with http2_client(mitm.port, mitm.ca_cert) as client:
                    asked = [
                        client.get(stage.tls_url, headers={"x-exit": name}) for name in names * 3
                    ]
                    first = await asked.pop(0)  # opens the connection
                    answers = [first, *await asyncio.gather(*asked)]
            tap.read()
    # An edit cuts what is under way.
    cut = {f"{name} {how}" for name in names for how in ("status 502", "deleted")}
    stage.expect("outcomes", set(ended) - cut, {f"{name} ok" for name in names})
    stage.expect("peers", {answer.json().get("peer") for answer in answers}, {EXIT})
    stage.expect("packets that were not seen", tap.lost, 0)
    to_socks5 = {(stage.address("ipv4"), socks5["port"])}
    to_http = {(stage.address("ipv6"), http["port"])}
    for words, places in (
        (USERNAME, to_socks5),
        (PASSWORD, to_socks5),
        (_basic(USERNAME, other), to_http),
        (other, set()),
        (_basic(USERNAME, PASSWORD), set()),
    ):
        stage.expect(f"told {words}", tap.told(words.encode()), places)
    for entry in entries:
        stage.allow(entry, ANY)


def _basic(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


async def websocket_cut(stage: Stage) -> None:
    """An edit of its proxy cuts a WebSocket, and the next one takes the new way."""
    entry = stage.proxy()
    edited = {**entry, "family": "ipv4"}
    origin = WebSocketOrigin(host=stage.peers.origin.host)
    with stage.peers.hosts.origin.entered():
        await origin.__aenter__()
    host = f"{origin.host}:{origin.port}"
    try:
        async with stage.mitmdump(policy=everything_by(entry)) as mitm:
            with stage.peers.hosts.mitm.entered():
                async with wire(mitm.port) as before:
                    with stage.phase(entry):
                        await upgrade(before, f"http://{host}/", host)
                        stage.expect("echo", await WebSocket(before).echo("one"), "one")
                    write_policy(stage.folder / "policy.yaml", **everything_by(edited))
                    await before.closed()
                async with wire(mitm.port) as after:
                    with stage.phase(edited):
                        await upgrade(after, f"http://{host}/", host)
                        stage.expect("echo", await WebSocket(after).echo("two"), "two")
    finally:
        await origin.__aexit__()
    for one in (entry, edited):
        stage.allow(one, 1)


async def edited_under_way(stage: Stage) -> None:
    """An edit ends a WebSocket, a stream that waits for its answer and a stream that waits for an
    exit, each beside another that goes on; a refused stream that waits is not sent."""
    there, slow = stage.proxy("there", "socks5", "ipv4"), stage.proxy("slow")
    (_, question), gate = stage.way(slow), asyncio.Event()
    zone: Any = stage.peers.names.zone
    zone[question] = Reply([stage.address("ipv6")], gate=gate)
    rules = [*by_header("slow"), {"use": "there"}]
    refuse_bad = {"filter": "~hq bad", "use": "refuse"}
    policy = everything_by(there, slow, rules=rules)
    sockets, origin = WebSocketOrigin(host=ORIGIN.at(1, "ipv4")), Http2Origin(host="0.0.0.0")
    async with AsyncExitStack() as stack:
        with stage.peers.hosts.origin.entered():
            await stack.enter_async_context(sockets)
            await stack.enter_async_context(origin)
        url = f"https://{ORIGIN_NAME}:{origin.port}"
        mitm = stage.mitmdump(policy=policy, egress_dns_timeout_ms=20_000)
        await stack.enter_async_context(mitm)
        with stage.peers.hosts.mitm.entered():
            fit, bad = [await stack.enter_async_context(wire(mitm.port)) for _ in range(2)]
            client = await stack.enter_async_context(http2_client(mitm.port, mitm.ca_cert))

            def ask(path: str, exit_: str = "there") -> asyncio.Task[httpx.Response]:
                headers = {"x": path[-3:], "x-exit": exit_}
                return asyncio.create_task(client.get(f"{url}{path}", headers=headers))

            with stage.phase(there):
                for one, word in ((fit, "fit"), (bad, "bad")):
                    host = f"{sockets.host}:{sockets.port}"
                    await upgrade(one, f"http://{host}/", host, [("x", word)])
                    stage.expect("echo", await WebSocket(one).echo(word), word)
                stage.expect("opened", (await ask("/warm")).status_code, 200)
                held = [ask("/hold-fit"), ask("/hold-bad")]
                await origin.until(lambda: len(origin.requests) == 3)
            stage.peers.names.arrived.clear()
            waiting = [ask("/slow-fit", "slow"), ask("/slow-bad", "slow")]
            async with asyncio.timeout(PATIENCE):
                await stage.peers.names.arrived.wait()
            edited = everything_by(there, slow, rules=[refuse_bad, *rules])
            write_policy(stage.folder / "policy.yaml", **edited)
            await reloaded(mitm)
            await bad.closed()
            stage.expect("held, refused", (await held[1]).status_code, 502)
            with stage.phase(slow):
                gate.set()
                statuses = [(await one).status_code for one in waiting]
                stage.expect("waited", statuses, [200, 503])
                stage.expect("echo", await WebSocket(fit).echo("on"), "on")
                origin.release.set()
                stage.expect("held", (await held[0]).status_code, 200)
    paths = {asked["path"] for asked in origin.requests}
    stage.expect("sent", paths, {"/warm", "/hold-fit", "/hold-bad", "/slow-fit"})
    stage.expect("reset", origin.resets, ["/hold-bad"])
    stage.allow(there, 3)
    stage.allow(slow, 1)


async def udp_and_quic(stage: Stage) -> None:
    """Datagrams and HTTP/3 do not leave if a proxy is chosen for them."""
    entry = stage.proxy()
    target = f"{stage.peers.origin.host}:{stage.peers.origin.tls_port}"
    udp, quic = free_port(), free_port()
    modes = [
        f"reverse:udp://{target}@127.0.0.1:{udp}",
        f"reverse:http3://{target}@127.0.0.1:{quic}",
    ]
    async with stage.mitmdump(policy=everything_by(entry), mode=modes) as mitm:
        with stage.peers.hosts.mitm.entered():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"ping", ("127.0.0.1", udp))
            await mitm.wait_for_log("udp_over_proxy")
            answer = await http3_get(quic, mitm.ca_cert, "localhost")
    stage.expect("HTTP/3", answer.json["reason"], "udp_over_proxy")


async def hints_at_the_other_family(stage: Stage) -> None:
    """An HTTPS record and Alt-Svc name another address: no program asks for it or follows it."""
    entry = stage.proxy()
    zone: Any = stage.peers.names.zone
    zone[entry["host"], "HTTPS"] = Reply(packets=_https_record)
    async with stage.mitmdump(
        "--modify-headers",
        f'/~s/alt-svc/h3="[{stage.address("ipv4", 1)}]:443"',
        policy=everything_by(entry),
    ) as mitm:
        for _ in range(3):
            for url in (stage.url, stage.tls_url):
                stage.expect(
                    url, await stage.get(mitm, url, "--alt-svc", str(stage.folder / "alt")), "ok"
                )
    stage.allow(entry, 6)


def _https_record(message: bytes) -> list[bytes]:
    """An answer that hints at an address of the other family (RFC 9460)."""
    answer = DNSRecord.parse(message)
    name, hint = answer.q.qname, IPv4Address(PROXIES.at(1, "ipv4")).packed
    data = b"\x00\x01\x00" + b"\x00\x04\x00\x04" + hint  # priority 1, same name, ipv4hint
    answer.add_answer(RR(name, QTYPE.HTTPS, rdata=RD(data), ttl=60))
    return [answer.pack()]


def _answers(names: Program) -> Callable[[], Coroutine[Any, Any, None]]:
    """Ready when its output says so, because it cannot be connected to from here."""

    async def listening() -> None:
        while "started" not in names.output:
            await asyncio.sleep(0.02)  # there is nothing else that tells

    return listening


async def system_asked(stage: Stage) -> None:
    """Not for mitmproxy: a look-up of the origin there, followed by a direct connection, is
    seen."""
    target, system = (ORIGIN_NAME, stage.peers.origin.port), stage.peers.system
    direct = (
        "import socket\n"
        f"for *how, _, place in socket.getaddrinfo(*{target}, type=socket.SOCK_STREAM):\n"
        "    socket.socket(*how).connect(place)"
    )
    before = system.queries.copy()
    prefix = on_mitm_host(stage.peers, stage.folder)
    process = await asyncio.create_subprocess_exec(*prefix, sys.executable, "-c", direct)
    stage.expect("status", await process.wait(), 0)
    stage.of_system |= {(ORIGIN_NAME, RECORD[family]) for family in FAMILIES}
    stage.expect("questions", set(system.queries - before), stage.of_system)
    stage.nameservers.add((system.host, system.port))
    stage.allowed.update((ORIGIN.at(2, family), target[1]) for family in FAMILIES)


STORIES: dict[str, Story] = {
    "the system is asked": system_asked,
    "squid and danted": other_programs,
    "resolver dies": resolver_dies,
    "proxy dies and comes back": proxy_dies,
    "policy file edited under load": policy_edited,
    "registry edited under load": registry_edited,
    "script reloaded, broken and deleted under load": script_reloaded,
    "management API restarted under load": api_restarted,
    "SIGKILL and restart": killed_and_started,
    "client replay": client_replay,
    "HTTP/2 streams over three egresses": http2_streams,
    "credentials under load, on the wire": credentials_tapped,
    "WebSocket across an edit": websocket_cut,
    "edit with WebSockets and streams under way": edited_under_way,
    "UDP and QUIC": udp_and_quic,
    "hints at the other family": hints_at_the_other_family,
    "start that fails, under load": start_that_fails,
    "start that refuses, under load": start_that_refuses,
    "own listeners through exits on this machine": own_listeners,
    "a firewall sends all back": sent_back,
    **POOL_STORIES,
}


async def tell(
    titles: Collection[str],
    peers: Peers,
    counters: PacketCounters,
    folder: Path,
    without: str = "",
) -> list[Result]:
    """Run these stories, with a safeguard sabotaged if one is named. Returns a result for each."""
    results = []
    for number, (title, story) in enumerate(STORIES.items()):
        if title not in titles:
            continue
        (home := folder / f"story{number}").mkdir()
        stage = Stage(peers, counters, home, 5000 + 10 * number, without=without)
        before = counters.read()
        questions, of_system = peers.names.queries.copy(), peers.system.queries.copy()
        try:
            await story(stage)
        except (AssertionError, EOFError, OSError, httpx.HTTPError) as error:
            stage.wrong.append(f"{type(error).__name__}: {str(error)[-500:]}")
        seen = counters.read().since(before)
        leaked = (seen.syn - stage.allowed + seen.udp) | stage.leaked
        for nameserver in (peers.names.place, *stage.nameservers):
            leaked.pop(nameserver, None)
        missing = {place for place in stage.allowed if place not in seen.syn}
        if missing:
            stage.wrong.append(f"never dialled {missing}")
        asked = frozenset(peers.names.queries - questions)
        if stage.questions - asked:
            stage.wrong.append(f"never asked {stage.questions - asked}")
        stray = (asked - stage.questions) | stage.unexpected
        stray |= frozenset(peers.system.queries - of_system) - stage.of_system
        results.append(Result(title, "", leaked, stray, "; ".join(stage.wrong)))
    return results
