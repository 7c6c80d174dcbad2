import asyncio
import gc
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest.mock import ANY

import pytest

from egress_policy.dns.hosts import HostsFile
from egress_policy.dns.resolver import NO_HOSTS, DnsResolver, assert_hostname_supports_family
from egress_policy.dns.stub import NO_SUCH_NAME, UNEXPECTED, UNREADABLE, failure
from egress_policy.dns.system import CLOSED
from egress_policy.errors import EgressError, InvalidEntry
from egress_policy.model.decision import Pin, Refusal
from egress_policy.policy.preflight import DnsAnswer, Query, judge, plan
from tests.helpers.clock import Clock
from tests.helpers.conformance import load
from tests.helpers.nameserver import Nameserver, Reply, Zone

NAME = "proxy.example"
ADDRESS = "2001:db8::1"
ZONE: Zone = {(NAME, "AAAA"): [ADDRESS], (NAME, "A"): ["203.0.113.7"]}


def vector_zone(vector: dict[str, Any]) -> Zone:
    silent, rcode = vector.get("timeout", False), vector.get("rcode", "NOERROR")
    return {
        (vector["host"], kind): Reply(vector.get(kind, ()), rcode=rcode, silent=silent)
        for kind in ("A", "AAAA")
    }


@pytest.mark.parametrize("vector", load("preflight"), ids=str)
async def test_conformance(vector: dict[str, Any]) -> None:
    async with Nameserver(vector_zone(vector)) as nameserver:
        resolver = DnsResolver([nameserver.address], timeout=0.2 if "timeout" in vector else 5)
        outcome = plan(vector["host"], vector["family"])
        if isinstance(outcome, Query):
            outcome = judge(outcome, await resolver.resolve(outcome.host, outcome.family))
        if "refuse" in vector:
            assert isinstance(outcome, Refusal)
            assert outcome.reason == vector["refuse"]
            assert vector.get("text", "").lower() in outcome.detail.lower()
        else:
            assert isinstance(outcome, Pin)
            assert outcome.addresses == tuple(vector["pin"] or [vector["host"]])
        kind = "AAAA" if vector["family"] == "ipv6" else "A"
        asked = set() if vector.get("queries") == 0 else {(vector["host"], kind)}
        assert set(nameserver.queries) == asked
        await resolver.aclose()


async def test_known_answers_need_no_query(tmp_path: Path) -> None:
    clock, hosts = Clock(), tmp_path / "hosts"
    hosts.write_text("2001:db8::2 local.example\n")
    async with Nameserver({(NAME, "AAAA"): [f"30 {ADDRESS}"]}) as nameserver:
        resolver = DnsResolver([nameserver.address], hosts=HostsFile(hosts), clock=clock)
        assert resolver.known(NAME, 6) is None
        assert not nameserver.queries
        await resolver.resolve(NAME, 6)
        assert resolver.known(f"{NAME.upper()}.", 6) == DnsAnswer(
            (ADDRESS,), 30, "records", from_cache=True
        )
        assert resolver.known(NAME, 4) is None
        clock.now += 31
        assert resolver.known(NAME, 6) is None
        for family, addresses in ((4, ()), (6, ("2001:db8::2",))):
            answer = resolver.known("local.example", family)  # type: ignore[arg-type]
            assert answer
            assert answer.addresses == addresses
        assert sum(nameserver.queries.values()) == 1
        await resolver.aclose()


async def test_nothing_is_known_from_nameservers_that_are_gone(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    async with Nameserver(ZONE) as nameserver:
        resolver = DnsResolver(resolv_conf=resolv_conf)
        assert resolver.known(NAME, 6) is None  # and no error: the file is not there
        resolver = DnsResolver([nameserver.address])
        await resolver.resolve(NAME, 6)
        resolver.clear()
        assert resolver.known(NAME, 6) is None
        await resolver.aclose()


async def test_an_answer_is_asked_for_once_until_its_ttl_is_over() -> None:
    clock = Clock()
    async with Nameserver({(NAME, "AAAA"): [f"30 {ADDRESS}"]}) as nameserver:
        resolver = DnsResolver([nameserver.address], clock=clock)
        assert await resolver.resolve(NAME, 6) == DnsAnswer((ADDRESS,), 30, "records")
        clock.now += 10
        cached = DnsAnswer((ADDRESS,), 20, "records", from_cache=True)
        assert await resolver.resolve(NAME, 6) == cached
        assert nameserver.queries.total() == 1
        clock.now += 20
        assert not (await resolver.resolve(NAME, 6)).from_cache
        assert nameserver.queries.total() == 2


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (Reply(rcode="SERVFAIL"), 2),
        (Reply(silent=True), 2),
        (Reply(soa_minimum=20), 20),
        (Reply(rcode="NXDOMAIN", soa_minimum=20), 20),
    ],
)
async def test_a_failure_is_answered_again_for_a_while(reply: Reply, seconds: float) -> None:
    clock = Clock()
    async with Nameserver({(NAME, "AAAA"): reply}) as nameserver:
        resolver = DnsResolver([nameserver.address], timeout=0.1, clock=clock)
        answer = await resolver.resolve(NAME, 6)
        asked = nameserver.queries.total()
        clock.now += seconds - 0.5
        cached = await resolver.resolve(NAME, 6)
        assert (cached.kind, cached.cause, cached.from_cache) == (answer.kind, answer.cause, True)
        assert nameserver.queries.total() == asked
        clock.now += 0.5
        assert not (await resolver.resolve(NAME, 6)).from_cache
        assert nameserver.queries.total() > asked


async def test_an_unexpected_exception_is_answered_again_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("dns.asyncresolver.Resolver.resolve", resolve)
    resolver = DnsResolver(["192.0.2.53"], clock=Clock())
    assert await resolver.resolve(NAME, 6) == failure(UNEXPECTED)
    assert (await resolver.resolve(NAME, 6)).from_cache


async def test_clear_forgets_known_and_pending_answers() -> None:
    gate = asyncio.Event()
    zone: dict[tuple[str, str], Any] = {(NAME, "AAAA"): Reply([ADDRESS], gate=gate)}
    async with Nameserver(zone) as nameserver:
        resolver = DnsResolver([nameserver.address])
        first = asyncio.create_task(resolver.resolve(NAME, 6))
        await nameserver.arrived.wait()
        zone[NAME, "AAAA"] = ["2001:db8::2"]
        resolver.clear()
        assert (await resolver.resolve(NAME, 6)).addresses == ("2001:db8::2",)
        gate.set()
        assert (await first).addresses == (ADDRESS,)
        assert (await resolver.resolve(NAME, 6)).addresses == ("2001:db8::2",)
        resolver.clear()
        assert not (await resolver.resolve(NAME, 6)).from_cache


async def test_spellings_of_a_name_are_one_question() -> None:
    async with Nameserver({("xn--bcher-kva.example", "A"): ["203.0.113.7"]}) as nameserver:
        resolver = DnsResolver([nameserver.address])
        for host in ("b\u00fccher.example", "B\u00dcCHER.Example.", "XN--bcher-KVA.example"):
            assert (await resolver.resolve(host, 4)).addresses == ("203.0.113.7",)
        assert nameserver.queries == {("xn--bcher-kva.example", "A"): 1}


async def test_the_same_question_has_one_query_in_flight() -> None:
    gate = asyncio.Event()
    zone = {
        (NAME, "A"): Reply(["203.0.113.7"], gate=gate),
        (NAME, "AAAA"): Reply([ADDRESS], gate=gate),
    }
    async with Nameserver(zone) as nameserver:
        resolver = DnsResolver([nameserver.address])
        callers = [asyncio.create_task(resolver.resolve(NAME, n)) for n in (4, 6) * 10]
        await nameserver.arrived.wait()
        gate.set()
        answers = await asyncio.gather(*callers)
        assert {answer.addresses for answer in answers} == {("203.0.113.7",), (ADDRESS,)}
        assert nameserver.queries == {(NAME, "A"): 1, (NAME, "AAAA"): 1}


async def test_a_cancelled_caller_leaves_the_flight_to_the_others() -> None:
    gate = asyncio.Event()
    async with Nameserver({(NAME, "AAAA"): Reply([ADDRESS], gate=gate)}) as nameserver:
        resolver = DnsResolver([nameserver.address])
        first, second = (asyncio.create_task(resolver.resolve(NAME, 6)) for _ in range(2))
        await nameserver.arrived.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.set()
        assert (await second).addresses == (ADDRESS,)
        assert nameserver.queries.total() == 1


async def test_an_abandoned_query_has_a_name_and_finishes() -> None:
    gate = asyncio.Event()
    async with Nameserver({(NAME, "AAAA"): Reply([ADDRESS], gate=gate)}) as nameserver:
        resolver = DnsResolver([nameserver.address])
        caller = asyncio.create_task(resolver.resolve(NAME, 6))
        await nameserver.arrived.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        (flight,) = (t for t in asyncio.all_tasks() if t.get_name() == f"egress-dns {NAME} AAAA")
        gate.set()
        await asyncio.wait({flight})
        assert (await resolver.resolve(NAME, 6)).from_cache


async def test_closing_fails_pending_and_later_questions() -> None:
    async with Nameserver({(NAME, "AAAA"): Reply(silent=True)}) as nameserver:
        resolver = DnsResolver([nameserver.address], clock=Clock())
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(resolver.resolve(NAME, 6))
        await nameserver.arrived.wait()
        await resolver.aclose()
        assert await waiting == replace(CLOSED, elapsed_ms=ANY)
        assert await resolver.resolve(NAME, 6) == replace(CLOSED, elapsed_ms=ANY)
        await resolver.aclose()
        assert asyncio.all_tasks() == before
        assert nameserver.queries.total() == 1


async def test_elapsed_is_what_the_caller_waited() -> None:
    async with Nameserver({(NAME, "AAAA"): Reply(silent=True)}) as nameserver:
        resolver = DnsResolver([nameserver.address], timeout=0.2)
        answer = await resolver.resolve(NAME, 6)
        assert 150 < answer.elapsed_ms < 2000
        assert (await resolver.resolve(NAME, 6)).elapsed_ms < 100


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "010.1.1.1"])
async def test_a_legacy_numeric_form_meets_dns_alone(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise AssertionError("the system was asked")

    async with Nameserver(ZONE) as nameserver:
        for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            monkeypatch.setattr(socket, function, look_up)
        with pytest.raises(EgressError, match="NXDOMAIN"):
            await assert_hostname_supports_family(host, 4, DnsResolver([nameserver.address]))


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.7 Proxy.Example\n::ffff:192.0.2.8 proxy.example\n")
    return path


async def test_the_hosts_file_is_the_authority_for_a_name_that_it_knows(hosts: Path) -> None:
    async with Nameserver(ZONE) as nameserver:
        resolver = DnsResolver([nameserver.address], hosts=HostsFile(hosts), clock=Clock())
        answer = await resolver.resolve("PROXY.example.", 4)
        assert answer == DnsAnswer(("192.0.2.7", "192.0.2.8"), 1, "records", from_hosts=True)
        assert await resolver.resolve(NAME, 6) == DnsAnswer((), 1, "no_record", from_hosts=True)
        assert not nameserver.queries
        assert (await resolver.resolve("other.example", 6)).cause == NO_SUCH_NAME
        hosts.write_text("")
        assert (await resolver.resolve(NAME, 6)).addresses == (ADDRESS,)


async def test_a_hosts_file_that_does_not_exist_leaves_dns(tmp_path: Path) -> None:
    async with Nameserver(ZONE) as nameserver:
        resolver = DnsResolver([nameserver.address], hosts=HostsFile(tmp_path / "hosts"))
        assert (await resolver.resolve(NAME, 6)).addresses == (ADDRESS,)


async def test_an_unreadable_hosts_file_fails_the_look_up(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.mkdir()
    async with Nameserver(ZONE) as nameserver:
        resolver = DnsResolver([nameserver.address], hosts=HostsFile(path))
        refused = failure(NO_HOSTS)
        assert resolver.known(NAME, 6) == refused
        assert await resolver.resolve(NAME, 6) == replace(refused, elapsed_ms=ANY)
        assert not nameserver.queries
        path.rmdir()
        assert (await resolver.resolve(NAME, 6)).addresses == (ADDRESS,)


async def test_system_nameservers_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    async with Nameserver(ZONE) as nameserver:
        system_port = nameserver.port
        resolver = DnsResolver(resolv_conf=path, clock=Clock(), system_port=system_port)
        path.write_text("nameserver 300.0.0.1\n")  # no usable one means loopback
        assert (await resolver.resolve(NAME, 6)).addresses == (ADDRESS,)
        assert (await resolver.resolve(NAME, 6)).from_cache
        assert (await resolver.resolve("proxy", 6)).cause == NO_SUCH_NAME
        assert nameserver.queries == {(NAME, "AAAA"): 1, ("proxy", "AAAA"): 1}
        path.write_text("search example\nnameserver 127.0.0.1\n")
        assert not (await resolver.resolve(NAME, 6)).from_cache
        assert nameserver.queries[NAME, "AAAA"] == 2


async def test_without_a_file_the_system_asks_loopback(tmp_path: Path) -> None:
    async with Nameserver(ZONE) as nameserver:
        path = tmp_path / "resolv.conf"
        resolver = DnsResolver(resolv_conf=path, system_port=nameserver.port)
        assert (await resolver.resolve(NAME, 6)).addresses == (ADDRESS,)


async def test_a_list_of_nameservers_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    resolver = DnsResolver(resolv_conf=tmp_path, clock=Clock())  # a folder
    assert resolver.known(NAME, 6) is None
    assert await resolver.resolve(NAME, 6) == failure(UNREADABLE)


def test_a_bad_server_is_rejected_at_once() -> None:
    with pytest.raises(InvalidEntry, match=r"Invalid nameserver 'dns\.example'"):
        DnsResolver(["192.0.2.53", "dns.example"])


async def test_the_library_face_gives_the_addresses_or_raises() -> None:
    async with Nameserver({**ZONE, ("only-a.example", "A"): ["203.0.113.7"]}) as nameserver:
        resolver = DnsResolver([nameserver.address])
        assert await assert_hostname_supports_family(NAME, 6, resolver) == (ADDRESS,)
        assert await assert_hostname_supports_family(NAME, "ipv6", resolver) == (ADDRESS,)
        assert nameserver.queries.total() == 1
        assert await assert_hostname_supports_family("[2001:DB8::1]", 6, resolver) == (ADDRESS,)
        assert await assert_hostname_supports_family(NAME, "auto", resolver) == (NAME,)
        with pytest.raises(EgressError, match=r"only-a\.example has no IPv6 \(AAAA\) record") as no:
            await assert_hostname_supports_family("only-a.example", 6, resolver)
        assert (no.value.reason, no.value.status) == ("no_record", 503)
        assert no.value.code == "PROXY_FAMILY_UNAVAILABLE"
        with pytest.raises(EgressError, match="contradicts IPv4 literal host"):
            await assert_hostname_supports_family("203.0.113.7", 6, resolver)
        for bad in (5, None, "IPv6", "4"):
            with pytest.raises(InvalidEntry):
                await assert_hostname_supports_family(NAME, bad, resolver)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["abandoned", "closed"])
def test_nothing_is_left_behind_when_the_loop_ends(how: Literal["abandoned", "closed"]) -> None:
    async def main() -> None:
        zone = {**ZONE, ("slow.example", "AAAA"): Reply(silent=True)}
        async with Nameserver(zone) as nameserver:
            resolver = DnsResolver([nameserver.address])
            await resolver.resolve(NAME, 6)
            waiting = asyncio.create_task(resolver.resolve("slow.example", 6))
            nameserver.arrived.clear()
            await nameserver.arrived.wait()
            waiting.cancel()
            if how == "closed":
                await resolver.aclose()

    asyncio.run(main())
    gc.collect()  # what is left behind warns when it is collected, and a warning is an error
