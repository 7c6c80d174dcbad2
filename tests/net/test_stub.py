import asyncio
from collections.abc import Sequence
from pathlib import Path

import dns.query
import dns.resolver
import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.model.nameserver import parse_nameserver
from egress_policy.net.stub import ask, failure, stated_stub, system_stub
from egress_policy.policy.preflight import Answer
from tests.helpers.certs import authority
from tests.helpers.nameserver import Nameserver, Reply, Zone
from tests.helpers.server import LabServer

NAME = "proxy.example"
ADDRESS = "2001:db8::1"
ZONE: Zone = {(NAME, "AAAA"): [ADDRESS]}
RECORDS = Answer((ADDRESS,), 60.0, "records")


def wrong_id(message: bytes) -> bytes:
    return bytes([message[0] ^ 0xFF]) + message[1:]


async def ask_at(*addresses: str, host: str = NAME, lifetime: float = 5) -> Answer:
    stub = stated_stub([parse_nameserver(address) for address in addresses], lifetime)
    return await ask(stub, host, 6)


async def ask_zone(reply: Reply | Sequence[str], lifetime: float = 5) -> Answer:
    async with Nameserver({(NAME, "AAAA"): reply}) as nameserver:
        return await ask_at(nameserver.address, lifetime=lifetime)


async def test_records_in_the_order_of_the_answer() -> None:
    answer = await ask_zone(["2001:db8::2", "2001:db8::1", "2001:db8::3"])
    assert answer.addresses == ("2001:db8::2", "2001:db8::1", "2001:db8::3")


async def test_a_chain_is_followed_and_its_shortest_ttl_counts() -> None:
    chain = ["300 CNAME a.example", "20 CNAME b.example", "600 2001:db8::1"]
    assert await ask_zone(chain) == Answer((ADDRESS,), 20.0, "records")


async def test_a_chain_that_ends_without_an_address_is_no_record() -> None:
    answer = await ask_zone(["CNAME elsewhere.example"])
    assert (answer.kind, answer.addresses) == ("no_record", ())


async def test_a_chain_in_a_circle_is_a_failure() -> None:
    answer = await ask_zone([f"CNAME {NAME}"])
    assert answer == failure("ChainTooLong")


@pytest.mark.parametrize(("ttl", "bounded"), [(0, 1), (1, 1), (3600, 3600), (86400, 3600)])
async def test_the_ttl_of_records_is_bounded(ttl: int, bounded: float) -> None:
    assert (await ask_zone([f"{ttl} {ADDRESS}"])).ttl == bounded


@pytest.mark.parametrize(("minimum", "ttl"), [(0, 1), (10, 10), (600, 30), (None, 30)])
async def test_the_soa_minimum_of_a_negative_answer_is_bounded(
    minimum: int | None, ttl: float
) -> None:
    assert await ask_zone(Reply(soa_minimum=minimum)) == Answer((), ttl, "no_record")
    answer = await ask_zone(Reply(rcode="NXDOMAIN", soa_minimum=minimum))
    assert answer == Answer((), ttl, "failure", "NXDOMAIN")


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
async def test_an_error_of_the_server_is_a_failure_in_its_word(rcode: str) -> None:
    assert await ask_zone(Reply(rcode=rcode)) == failure(rcode)


async def test_records_of_another_type_are_no_answer() -> None:
    assert (await ask_zone(["203.0.113.7"])).kind == "no_record"


async def test_mapped_addresses_are_passed_on_for_judge_to_see() -> None:
    assert (await ask_zone(["::ffff:203.0.113.7"])).addresses == ("::ffff:203.0.113.7",)


async def test_a_truncated_answer_is_asked_for_over_tcp() -> None:
    reply = Reply([ADDRESS], truncated_over_udp=True)
    async with Nameserver({(NAME, "AAAA"): reply}) as nameserver:
        assert await ask_at(nameserver.address) == RECORDS
        assert nameserver.transports == {"udp": 1, "tcp": 1}


@pytest.mark.parametrize("noise", [b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 600])
async def test_noise_before_the_answer_is_ignored(noise: bytes) -> None:
    def packets(message: bytes) -> Sequence[bytes]:
        return noise, wrong_id(message), message

    assert await ask_zone(Reply([ADDRESS], packets=packets)) == RECORDS


async def test_noise_alone_is_a_timeout() -> None:
    reply = Reply([ADDRESS], packets=lambda message: (b"noise", wrong_id(message)))
    answer = await ask_zone(reply, lifetime=0.2)
    assert answer == Answer((), 2.0, "timeout", "timed out after 200 ms")


@pytest.mark.parametrize("noise", [b"noise", b"", b"\xff" * 600])
async def test_noise_over_tcp_is_a_failure(noise: bytes) -> None:
    def packets(message: bytes) -> Sequence[bytes]:
        truncated = message[2] & 2
        return (message,) if truncated else (noise,)

    answer = await ask_zone(Reply(truncated_over_udp=True, packets=packets), lifetime=1)
    assert (answer.kind, answer.ttl) == ("failure", 2.0)


async def test_a_silent_server_leaves_time_for_the_next() -> None:
    async with (
        Nameserver({(NAME, "AAAA"): Reply(silent=True)}) as dead,
        Nameserver({(NAME, "AAAA"): Reply(rcode="SERVFAIL")}) as broken,
        Nameserver(ZONE) as good,
    ):
        servers = (dead.address, broken.address, good.address)
        assert await ask_at(*servers, lifetime=1.5) == RECORDS
        assert dead.queries == broken.queries == good.queries == {(NAME, "AAAA"): 1}


async def test_a_lost_packet_is_sent_again() -> None:
    lost: list[bytes] = []

    def packets(message: bytes) -> Sequence[bytes]:
        if lost:
            return (message,)
        lost.append(message)
        return ()

    assert await ask_zone(Reply([ADDRESS], packets=packets), lifetime=1) == RECORDS


async def test_the_deadline_holds_over_all_servers_and_retries() -> None:
    loop = asyncio.get_running_loop()
    async with Nameserver({(NAME, "AAAA"): Reply(silent=True)}) as silent:
        started = loop.time()
        answer = await ask_at(*[silent.address] * 5, lifetime=0.3)
        assert 0.25 < loop.time() - started < 2
        assert answer == Answer((), 2.0, "timeout", "timed out after 300 ms")


@pytest.mark.parametrize(
    "host",
    ["", "a..example", ".example", "a" * 64 + ".example", ".".join(["abcdefg"] * 40), "\u00e4"],
)
async def test_what_is_no_dns_name_is_a_failure_without_a_query(host: str) -> None:
    async with Nameserver(ZONE) as nameserver:
        assert await ask_at(nameserver.address, host=host) == failure("not a DNS name")
        assert not nameserver.queries


@pytest.mark.parametrize("host", ["\\097.example", "a\\.b.example", "a b.example", "*.example"])
async def test_a_name_is_asked_for_letter_by_letter(host: str) -> None:
    async with Nameserver(ZONE) as nameserver:
        assert (await ask_at(nameserver.address, host=host)).cause == "NXDOMAIN"
        assert nameserver.queries.total() == 1


@pytest.mark.parametrize("error", [RuntimeError("secret"), AssertionError(), KeyError("secret")])
async def test_an_unexpected_exception_is_a_failure_that_names_its_type(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dns.asyncresolver.Resolver.resolve", resolve)
    assert await ask_at("192.0.2.53") == failure(type(error).__name__)


async def test_cancellation_passes() -> None:
    async with Nameserver({(NAME, "AAAA"): Reply(silent=True)}) as silent:
        asking = asyncio.create_task(ask_at(silent.address))
        await silent.arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_system_nameservers_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("search example.net\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    assert system_stub(path, 3).nameservers == ["192.0.2.53", "2001:db8::53"]
    path.write_text("search example.net\n")
    with pytest.raises(dns.resolver.NoResolverConfiguration, match="no nameservers"):
        system_stub(path, 3)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority().ca_path))


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("names", "suffix"), [(["127.0.0.1"], ""), (["dns.example"], "#dns.example")]
)
async def test_tls_to_a_server_with_the_right_name(names: list[str], suffix: str) -> None:
    async with Nameserver(ZONE, authority().server_context(*names)) as nameserver:
        assert await ask_at(nameserver.tls_address + suffix) == RECORDS
        assert nameserver.transports == {"tls": 1}


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("suffix", ["", "#dns.example"])
async def test_tls_to_a_server_with_another_name_is_a_failure(suffix: str) -> None:
    async with Nameserver(ZONE, authority().server_context("other.example")) as nameserver:
        answer = await ask_at(nameserver.tls_address + suffix)
        assert answer == failure("SSLCertVerificationError")
        assert not nameserver.queries


async def test_tls_to_a_server_that_nobody_vouches_for_is_a_failure() -> None:
    async with Nameserver(ZONE, authority().server_context("127.0.0.1")) as nameserver:
        answer = await ask_at(nameserver.tls_address)
        assert answer == failure("SSLCertVerificationError")
        assert not nameserver.queries


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(silent=True), "timed out after 300 ms"),
        (Reply(packets=lambda message: (wrong_id(message),)), "BadResponse"),
        (Reply(packets=lambda message: (b"noise",)), "ShortHeader"),
        (Reply(rcode="SERVFAIL"), "SERVFAIL"),
    ],
)
async def test_tls_to_a_server_that_misbehaves(reply: Reply, outcome: str) -> None:
    zone = {(NAME, "AAAA"): reply}
    async with Nameserver(zone, authority().server_context("127.0.0.1")) as nameserver:
        assert (await ask_at(nameserver.tls_address, lifetime=0.3)).cause == outcome


async def test_tls_to_a_server_that_never_says_hello_is_a_timeout() -> None:
    class Mute(LabServer):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

    async with Mute() as server:
        answer = await ask_at(f"tls://{server.authority}", lifetime=0.2)
        assert answer.kind == "timeout"
        assert server.accepted
        await server.until(lambda: not server.open)


async def test_tls_to_a_closed_port_is_a_failure() -> None:
    async with Nameserver(ZONE) as nameserver:
        pass
    answer = await ask_at(f"tls://{nameserver.address}")
    assert answer == failure("ConnectionRefusedError")


def test_https_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns.query, "have_doh", False)
    server = parse_nameserver("https://dns.example/dns-query")
    with pytest.raises(InvalidEntry, match=r"mitmproxy-egress-policy\[doh\]"):
        stated_stub([server], 3)


def test_https_with_its_extra_asks_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns.query, "have_doh", True)
    stub = stated_stub([parse_nameserver("https://dns.example/dns-query")], 3)
    assert list(map(str, stub.nameservers)) == ["https://dns.example:443/dns-query"]
