import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dns.query
import pytest

from egress_policy.dns.resolv_conf import ResolvConf
from egress_policy.dns.stub import (
    NO_SUCH_NAME,
    UNEXPECTED,
    SystemStub,
    ask,
    configured_stub,
    failure,
    system_stub,
)
from egress_policy.errors import InvalidEntry
from egress_policy.model.nameserver import parse_nameserver
from egress_policy.policy.hop import OUT_OF_DESCRIPTORS
from egress_policy.policy.preflight import DnsAnswer
from tests.helpers.certs import authority
from tests.helpers.conformance import resolv_confs
from tests.helpers.nameserver import Nameserver, Reply, Zone
from tests.helpers.server import LabServer

NAME = "proxy.example"
ADDRESS = "2001:db8::1"
ZONE: Zone = {(NAME, "AAAA"): [ADDRESS]}
RECORDS = DnsAnswer((ADDRESS,), 60.0, "records")


def wrong_id(message: bytes) -> bytes:
    return bytes([message[0] ^ 0xFF]) + message[1:]


async def ask_at(*addresses: str, host: str = NAME, lifetime: float = 5) -> DnsAnswer:
    stub = configured_stub([parse_nameserver(address) for address in addresses], lifetime)
    return await ask(stub, host, 6)


async def ask_zone(reply: Reply | Sequence[str], lifetime: float = 5) -> DnsAnswer:
    async with Nameserver({(NAME, "AAAA"): reply}) as nameserver:
        return await ask_at(nameserver.address, lifetime=lifetime)


async def test_records_in_the_order_of_the_answer() -> None:
    answer = await ask_zone(["2001:db8::2", "2001:db8::1", "2001:db8::3"])
    assert answer.addresses == ("2001:db8::2", "2001:db8::1", "2001:db8::3")


async def test_a_chain_is_followed_and_its_shortest_ttl_counts() -> None:
    chain = ["300 CNAME a.example", "20 CNAME b.example", "600 2001:db8::1"]
    assert await ask_zone(chain) == DnsAnswer((ADDRESS,), 20.0, "records")


async def test_a_chain_that_ends_without_an_address_is_no_record() -> None:
    answer = await ask_zone(["CNAME elsewhere.example"])
    assert (answer.kind, answer.addresses) == ("no_record", ())


async def test_a_chain_in_a_circle_is_a_failure() -> None:
    answer = await ask_zone([f"CNAME {NAME}"])
    assert answer == failure("the nameserver's answer cannot be understood")


@pytest.mark.parametrize(("ttl", "bounded"), [(0, 1), (1, 1), (3600, 3600), (86400, 3600)])
async def test_the_ttl_of_records_is_bounded(ttl: int, bounded: float) -> None:
    assert (await ask_zone([f"{ttl} {ADDRESS}"])).ttl == bounded


@pytest.mark.parametrize(("minimum", "ttl"), [(0, 1), (10, 10), (600, 30), (None, 30)])
async def test_the_soa_minimum_of_a_negative_answer_is_bounded(
    minimum: int | None, ttl: float
) -> None:
    assert await ask_zone(Reply(soa_minimum=minimum)) == DnsAnswer((), ttl, "no_record")
    answer = await ask_zone(Reply(rcode="NXDOMAIN", soa_minimum=minimum))
    assert answer == DnsAnswer((), ttl, "failure", NO_SUCH_NAME)


@pytest.mark.parametrize(
    ("rcode", "words"),
    [
        ("SERVFAIL", "the nameserver failed (SERVFAIL)"),
        ("REFUSED", "the nameserver refused the question (REFUSED)"),
        ("FORMERR", "the nameserver did not understand the question (FORMERR)"),
        ("NOTIMP", "the nameserver does not answer such questions (NOTIMP)"),
        ("NOTAUTH", "the nameserver answered with an error"),
        ("YXDOMAIN", "the nameserver's answer cannot be understood"),
    ],
)
async def test_an_error_of_the_server_is_a_failure_in_fixed_words(rcode: str, words: str) -> None:
    assert await ask_zone(Reply(rcode=rcode)) == failure(words)


async def test_each_outcome_is_named_once() -> None:
    async with (
        Nameserver({(NAME, "AAAA"): Reply(rcode="SERVFAIL")}) as broken,
        Nameserver({(NAME, "AAAA"): Reply(rcode="REFUSED")}) as shy,
    ):
        answer = await ask_at(broken.address, shy.address, broken.address)
    both = "the nameserver failed (SERVFAIL), the nameserver refused the question (REFUSED)"
    assert answer == failure(both)


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
    assert answer == DnsAnswer((), 2.0, "timeout", "timed out after 200 ms")


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
        assert answer == DnsAnswer((), 2.0, "timeout", "timed out after 300 ms")


@pytest.mark.parametrize(
    "host",
    ["", "a..example", ".example", "a" * 64 + ".example", ".".join(["abcdefg"] * 40), "\u00e4"],
)
async def test_invalid_dns_name_fails_without_a_query(host: str) -> None:
    async with Nameserver(ZONE) as nameserver:
        assert await ask_at(nameserver.address, host=host) == failure("not a DNS name")
        assert not nameserver.queries


@pytest.mark.parametrize("host", ["\\097.example", "a\\.b.example", "a b.example", "*.example"])
async def test_a_name_is_asked_for_letter_by_letter(host: str) -> None:
    async with Nameserver(ZONE) as nameserver:
        assert (await ask_at(nameserver.address, host=host)).cause == NO_SUCH_NAME
        assert nameserver.queries.total() == 1


@pytest.mark.parametrize("error", [RuntimeError("secret"), AssertionError(), KeyError("secret")])
async def test_an_unexpected_exception_is_a_failure_that_the_log_describes(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def resolve(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dns.asyncresolver.Resolver.resolve", resolve)
    assert await ask_at("192.0.2.53") == failure(UNEXPECTED)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert type(error).__name__ in caplog.text


OS_ERRORS = [
    (ConnectionRefusedError(111, "SECRET"), "no nameserver could be reached"),
    (OSError(19, "SECRET"), "no nameserver could be reached"),
    (OSError(errno.EMFILE, "SECRET"), OUT_OF_DESCRIPTORS.what),
    (ssl.SSLError(1, "SECRET"), "TLS with the nameserver failed"),
    (ssl.SSLCertVerificationError(1, "SECRET"), "the nameserver's certificate is not valid for it"),
    (
        asyncio.IncompleteReadError(b"SECRET", 2),
        "the nameserver closed the connection without an answer",
    ),
    (
        dns.query.BadResponse("SECRET"),  # type: ignore[no-untyped-call]
        "the nameserver's answer cannot be understood",
    ),
    (NotImplementedError("SECRET"), UNEXPECTED),
]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("error", "words"), OS_ERRORS, ids=lambda value: type(value).__name__)
async def test_no_text_of_an_exception_is_passed_on(
    error: Exception, words: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    place = "asyncresolver.Resolver.resolve" if at_once else "nameserver.Do53Nameserver.async_query"
    monkeypatch.setattr(f"dns.{place}", fail)
    assert await ask_at("192.0.2.53") == failure(words)


async def test_cancellation_passes() -> None:
    async with Nameserver({(NAME, "AAAA"): Reply(silent=True)}) as silent:
        asking = asyncio.create_task(ask_at(silent.address))
        await silent.arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize(
    ("conf", "timeout", "lifetime"),
    [
        (ResolvConf(("192.0.2.1",)), 1.5, 3),
        (ResolvConf(("192.0.2.1", "192.0.2.2")), 1, 3),
        (ResolvConf(("192.0.2.1",), timeout=1), 1, 2),
        (ResolvConf(("192.0.2.1",), timeout=1, attempts=1), 1, 1),
        (ResolvConf(("192.0.2.1", "192.0.2.2"), timeout=1, attempts=1), 1, 2),
        (ResolvConf(("192.0.2.1",), timeout=30, attempts=5), 1.5, 3),
    ],
)
def test_the_options_of_the_system_hold_within_the_deadline(
    conf: ResolvConf, timeout: float, lifetime: float
) -> None:
    stub = system_stub(conf, 3)
    assert (stub.timeout, stub.lifetime) == (timeout, lifetime)
    assert not stub.rotate
    assert system_stub(replace(conf, rotate=True), 3).rotate


async def test_the_system_may_want_tcp_alone() -> None:
    async with Nameserver(ZONE) as nameserver:
        stub = system_stub(ResolvConf(("127.0.0.1",), tcp=True), 5, nameserver.port)
        assert await ask(stub, NAME, 6) == RECORDS
        assert nameserver.transports == {"tcp": 1}


@pytest.mark.parametrize("path", resolv_confs(), ids=lambda path: path.stem)
async def test_a_nameserver_is_found_in_the_files_of_real_machines(path: Path) -> None:
    async with Nameserver(ZONE) as nameserver:
        stub = SystemStub(path, 1, nameserver.port).get()
        assert await ask(stub, NAME, 6) == RECORDS
        assert nameserver.queries.total() == 1


def test_the_stub_is_another_one_when_the_content_is(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    system = SystemStub(path, 3)
    loopback = system.get()
    assert list(map(str, loopback.nameservers)) == ["Do53:127.0.0.1@53"]
    path.write_text("")
    assert system.get() is loopback
    path.write_text("nameserver 192.0.2.53\n")
    stub = system.get()
    assert list(map(str, stub.nameservers)) == ["Do53:192.0.2.53@53"]
    os.utime(path, (1, 1))
    assert system.get() is stub


def test_unusable_lines_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "resolv.conf"
    system = SystemStub(path, 3)

    def said() -> list[str]:
        for time_ in range(3):
            if path.is_file():
                os.utime(path, (time_, time_))
            system.get()
        messages = [record.getMessage() for record in caplog.records]
        assert all(record.levelno == logging.WARNING for record in caplog.records)
        caplog.clear()
        return messages

    assert said() == []
    path.write_text("nameserver localhost\nnameserver 192.0.2.53\n")
    what = f"{path}: line 1: 'localhost' is not an IP address"
    assert said() == [f"{what}. Pinned names are looked up at 192.0.2.53"]
    path.write_text("nameserver localhost\n")
    assert said() == [f"{what}. Pinned names are looked up at 127.0.0.1"]
    path.write_text("nameserver\n" * 5)
    (many,) = said()
    assert many.count("the address is missing") == 3
    assert "; 2 more. " in many
    path.write_text("nameserver 192.0.2.53\n")
    assert said() == []


def test_an_unreadable_list_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = SystemStub(tmp_path, 3)  # a folder
    for _ in range(3):
        with pytest.raises(OSError, match="Is a directory"):
            system.get()
    (record,) = caplog.records
    assert record.getMessage().startswith("The system's nameservers cannot be read: ")


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
        assert answer == failure("the nameserver's certificate is not valid for it")
        assert not nameserver.queries


async def test_tls_to_a_server_with_an_untrusted_certificate_fails() -> None:
    async with Nameserver(ZONE, authority().server_context("127.0.0.1")) as nameserver:
        answer = await ask_at(nameserver.tls_address)
        assert answer == failure("the nameserver's certificate is not valid for it")
        assert not nameserver.queries


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(silent=True), "timed out after 300 ms"),
        (
            Reply(packets=lambda message: (wrong_id(message),)),
            "the nameserver's answer cannot be understood",
        ),
        (
            Reply(packets=lambda message: (b"noise",)),
            "the nameserver's answer cannot be understood",
        ),
        (Reply(rcode="SERVFAIL"), "the nameserver failed (SERVFAIL)"),
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
    assert answer == failure("no nameserver could be reached")


def test_https_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns.query, "have_doh", False)
    server = parse_nameserver("https://dns.example/dns-query")
    with pytest.raises(InvalidEntry, match=r"mitmproxy-egress-policy\[doh\]"):
        configured_stub([server], 3)


def test_https_with_its_extra_asks_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns.query, "have_doh", True)
    stub = configured_stub([parse_nameserver("https://dns.example/dns-query")], 3)
    assert list(map(str, stub.nameservers)) == ["https://dns.example:443/dns-query"]
