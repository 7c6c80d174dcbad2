"""Tests of proxies as faces ask for them: what is tested, one at a time, and what is remembered."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from egress_policy.client.probe import ProbeLimits
from egress_policy.dns.resolver import DnsResolver
from egress_policy.errors import Code, NotFound, Reason
from egress_policy.management import test_targets
from egress_policy.management.in_force import PolicyInForce, closed_snapshot
from egress_policy.management.journal import JournalWriter
from egress_policy.management.prober import Prober, default_tls
from egress_policy.management.probes import AT_A_HOP, AT_ONCE, Probes
from egress_policy.management.test_result import TestResult
from egress_policy.management.upkeep import Upkeep
from egress_policy.model.decision import Egress
from egress_policy.model.decision import Place as Target
from egress_policy.model.family_urls import FamilyUrls
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import Outcome
from egress_policy.registry.registry import Edit
from egress_policy.router import EgressRouter
from tests.helpers.certs import authority
from tests.helpers.filters import compile_word
from tests.helpers.lab import tls_for, zone
from tests.helpers.management import put_in_force
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Origin, tls_context
from tests.helpers.ports import free_port
from tests.helpers.proxies import HttpProxy, Socks5Proxy
from tests.helpers.scene import write_policy
from tests.helpers.server import LabServer

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PATIENT = ProbeLimits(60, 60, 60)


@dataclass
class Place:
    """A policy file and a registry, an origin, proxies, and the probes over them."""

    upkeep: Upkeep
    probes: Probes
    origin: Origin
    http: HttpProxy
    socks5: Socks5Proxy
    nameserver: Nameserver
    tls_names: list[str]
    journal: JournalWriter
    reported: list[tuple[Egress, Target, str, Outcome]]

    async def create(self, server: LabServer, **fields: Any) -> str:
        stated = {"name": "dc", "host": "127.0.0.1", "port": server.port, **fields}
        stored = await self.upkeep.change(lambda edit: edit.proxies.create(stated))
        return stored.id

    async def change(self, edit: Callable[[Edit], object]) -> None:
        await self.upkeep.change(edit)

    async def failed(self, key: str) -> TestResult:
        result = await self.probes.test(key)
        assert not result.ok
        assert "s3cret" not in result.model_dump_json()
        return result


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Origin())
        resolve = {"origin.test": origin.address}
        http = await stack.enter_async_context(HttpProxy(resolve=resolve))
        socks5 = await stack.enter_async_context(Socks5Proxy(resolve=resolve))
        records = {**zone("proxy.test", "origin.test"), ("v4.test", "A"): ["127.0.0.1"]}
        names = await stack.enter_async_context(Nameserver(records))
        resolver = DnsResolver([names.address])
        in_force = PolicyInForce(EgressRouter(closed_snapshot(), resolver), compile_word)
        upkeep = Upkeep(in_force)
        filed = {"name": "filed", "host": "127.0.0.1", "port": http.port}
        put_in_force(upkeep, tmp_path, write_policy(tmp_path / "policy.yaml", proxies=[filed]))
        url = origin.url("origin.test", "/ip")
        await upkeep.change(lambda edit: edit.settings.put({"test_url": url}))
        tls_names: list[str] = []

        def tls(name: str) -> ssl.SSLContext:
            tls_names.append(name)
            return authority().client_context(["http/1.1"])

        journal, reported = JournalWriter(in_force), list[tuple[Egress, Target, str, Outcome]]()

        def report(*said: Any) -> None:
            reported.append(said)

        prober = Prober(in_force, tls, PATIENT)
        probes = Probes(in_force, prober, journal, report, lambda: NOON)
        yield Place(upkeep, probes, origin, http, socks5, names, tls_names, journal, reported)
        journal.stop()
        await probes.aclose()
        await resolver.aclose()
        if closing := upkeep.stop():
            await closing


async def test_proxy_of_the_registry_is_tested_by_id_and_by_name(place: Place) -> None:
    id_ = await place.create(place.http, family="ipv4")
    result = await place.probes.test(id_)
    assert (result.ok, result.status, result.code, result.detail) == (True, 200, "", "")
    assert (result.proxy, result.family, result.at) == ("dc", "ipv4", "2026-01-02T12:00:00.000Z")
    assert (result.address, result.peer_family) == ("127.0.0.1", "ipv4")
    assert (await place.probes.test("dc")).ok
    assert [one["path"] for one in place.origin.requests] == ["/ip", "/ip"]
    assert place.tls_names == []


@pytest.mark.parametrize("key", ["file:filed", "filed"])
async def test_proxy_of_the_file_is_tested(place: Place, key: str) -> None:
    result = await place.probes.test(key)
    assert (result.ok, result.proxy) == (True, "filed")


@pytest.mark.parametrize("key", ["nobody", "file:dc", "file:", "", "direct"])
async def test_unknown_proxy_is_not_found(place: Place, key: str) -> None:
    await place.create(place.http)
    with pytest.raises(NotFound):
        await place.probes.test(key)


async def test_inactive_proxy_that_no_rule_uses_is_tested_all_the_same(place: Place) -> None:
    await place.create(place.socks5, type="socks5", status="inactive")
    assert (await place.probes.test("dc")).ok


async def test_name_of_the_proxy_is_resolved_for_its_family_alone(place: Place) -> None:
    await place.create(place.http, host="proxy.test", family="ipv4")
    result = await place.probes.test("dc")
    assert (result.ok, result.peer_family) == (True, "ipv4")
    assert result.dns_ms is not None
    assert result.total_ms is not None
    assert result.total_ms >= result.dns_ms
    assert place.nameserver.queries == {("proxy.test", "A"): 1}


async def test_target_is_resolved_here_for_a_pinned_second_hop(place: Place) -> None:
    fields = {"type": "socks5", "target_family": "ipv4"}
    await place.create(place.socks5, **fields)
    assert (await place.probes.test("dc")).ok
    assert place.socks5.targets == [f"127.0.0.1:{place.origin.port}"]


async def test_family_that_cannot_be_had_is_refused_undialled(place: Place) -> None:
    await place.create(place.http, host="v4.test", family="ipv6", password="s3cret")
    result = await place.failed("dc")
    assert (result.code, result.reason) == (Code.FAMILY_UNAVAILABLE, Reason.NO_RECORD)
    assert "no IPv6 (AAAA) record" in result.detail
    assert result.address is None
    assert place.http.accepted == 0


async def test_tls_is_set_up_for_each_name_that_is_spoken_with(place: Place) -> None:
    async with (
        Origin(tls=tls_context()) as secure,
        HttpProxy(tls=tls_for("proxy.test"), resolve={"origin.test": secure.address}) as proxy,
    ):
        url = secure.url("origin.test")
        await place.change(lambda edit: edit.settings.put({"test_url": url}))
        await place.create(proxy, type="https", host="proxy.test", family="ipv4")
        assert (await place.probes.test("dc")).ok
    assert place.tls_names == ["proxy.test", "origin.test"]


async def test_settings_for_tls_that_cannot_be_made_are_a_result(place: Place) -> None:
    def broken(_name: str) -> ssl.SSLContext:
        raise FileNotFoundError("no authorities")

    await place.create(place.http, type="https")
    in_force = place.upkeep.in_force
    place.probes = Probes(in_force, Prober(in_force, broken), place.journal)
    result = await place.failed("dc")
    assert (result.reason, result.detail) == (Reason.ERROR, "Proxy dc: no authorities")


async def test_socks5_that_is_switched_off_is_not_dialled(place: Place) -> None:
    await place.create(place.socks5, type="socks5")
    in_force = place.upkeep.in_force
    in_force.opened = replace(in_force.opened, socks5=False)
    assert (await place.failed("dc")).reason == Reason.SOCKS5_DISABLED
    assert place.socks5.accepted == 0


async def test_own_management_api_is_not_dialled(place: Place) -> None:
    await place.create(place.http)
    place.upkeep.in_force.router.listeners.of_api = ((place.http.host, place.http.port),)
    assert (await place.failed("dc")).reason == Reason.LOOP
    assert place.http.accepted == 0


async def test_entry_that_lies_broken_in_the_database_says_why(place: Place) -> None:
    id_ = await place.create(place.http, password="s3cret")
    source = place.upkeep.in_force.opened.registry
    assert source
    broken = replace(source.state.proxies[0], value=None, problem="the stored family 'v6' is none")
    entries = {**source.state.entries, "proxies": (broken,)}
    source.state = replace(source.state, entries=entries)
    result = await place.failed(id_)
    assert (result.proxy, result.detail) == ("dc", "the stored family 'v6' is none")
    assert place.http.accepted == 0


async def test_target_that_was_edited_into_nonsense_is_not_asked_for(place: Place) -> None:
    await place.create(place.http)
    source = place.upkeep.in_force.opened.registry
    assert source
    source.state = replace(source.state, settings={"test_url": "http://u:s3cret@origin.test/"})
    assert "the setting test_url" in (await place.failed("dc")).detail
    assert place.http.accepted == 0


async def test_result_names_the_file_that_has_the_name_too(place: Place) -> None:
    id_ = await place.create(place.http)
    source = place.upkeep.in_force.opened.file
    assert source.policy
    (filed,) = source.policy.proxies
    twin = filed.model_copy(update={"name": "dc"})
    source.policy = source.policy.model_copy(update={"proxies": (filed, twin)})
    result = await place.failed(id_)
    assert (result.code, result.reason) == ("INVALID_ENTRY", "invalid_entry")
    assert "policy file has this name" in result.detail
    assert (await place.probes.test("dc")).ok  # the file's


async def test_target_of_the_other_family_is_asked_where_the_first_may_be_to_blame(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Origin(tls=tls_context()) as other:
        urls = FamilyUrls(ipv4=other.url("v4.test"), ipv6=other.url("localhost"))
        monkeypatch.setattr(test_targets, "DEFAULTS", urls)
        place.http.resolve |= {"v4.test": other.address, "localhost": other.address}
        await place.create(place.http)
        await place.change(lambda edit: edit.settings.put({"test_url": None}))
        result = await place.probes.test("dc")  # the first has a certificate for another name
        assert (result.ok, result.target, result.fault) == (True, "localhost", "")
        hosts = [target.partition(":")[0] for target in place.http.targets]
        assert hosts == ["v4.test", "localhost"]


async def test_target_that_may_be_to_blame_is_named_and_no_other_is_asked_for_a_proxy_at_fault(
    place: Place,
) -> None:
    await place.create(place.http)
    place.http.resolve["origin.test"] = ("127.0.0.1", free_port())
    failed = await place.failed("dc")
    assert (failed.target, failed.fault) == ("origin.test", "undecided")
    assert failed.detail.endswith("; the target origin.test may be to blame")
    await place.change(lambda edit: edit.settings.put({"test_url": None}))
    await place.create(place.http, name="dead", port=free_port())
    place.reported.clear()
    failed = await place.failed("dead")
    assert (failed.reason, failed.fault) == ("connect_refused", "proxy")
    assert "to blame" not in failed.detail
    assert [outcome.step for *_, outcome in place.reported] == ["dial", "attempt"]


# -- one at a time


async def hold(place: Place) -> None:
    url = place.origin.url("origin.test", "/hold")
    await place.change(lambda edit: edit.settings.put({"test_url": url}))


async def test_concurrent_tests_of_a_proxy_share_one_result(place: Place) -> None:
    await place.create(place.http)
    await hold(place)
    one, other, gone = (asyncio.create_task(place.probes.test("dc")) for _ in range(3))
    await place.origin.until(lambda: place.origin.requests)
    gone.cancel()
    place.origin.release.set()
    assert await one is await other
    assert place.http.accepted == 1


async def test_edited_proxy_is_tested_after_the_test_of_what_it_was(place: Place) -> None:
    id_ = await place.create(place.http)
    await hold(place)
    old = asyncio.create_task(place.probes.test("dc"))
    await place.origin.until(lambda: place.origin.requests)
    await place.change(lambda edit: edit.proxies.update(id_, {"username": "u"}))
    new = [asyncio.create_task(place.probes.test("dc")) for _ in range(2)]
    await asyncio.sleep(0)
    assert place.http.accepted == 1
    place.origin.release.set()
    assert (await old).ok
    assert await new[0] is await new[1]
    assert [one.credentials for one in place.http.requests] == [None, ("u", "")]
    assert place.probes.last("dc") is await new[0]


async def create_many(place: Place, servers: list[LabServer]) -> list[str]:
    names = [f"p{number}" for number in range(len(servers))]

    def create(edit: Edit) -> None:
        for name, server in zip(names, servers, strict=True):
            edit.proxies.create({"name": name, "host": "127.0.0.1", "port": server.port})

    await place.change(create)
    await hold(place)
    return names


async def test_no_more_than_two_tests_run_at_once_for_one_address(place: Place) -> None:
    names = await create_many(place, [place.http] * (AT_A_HOP + 3))
    tests = [asyncio.create_task(place.probes.test(name)) for name in names]
    await place.origin.until(lambda: len(place.origin.requests) == AT_A_HOP)
    assert place.http.accepted == AT_A_HOP
    place.origin.release.set()
    assert all([(await test).ok for test in tests])


async def test_no_more_than_thirty_two_tests_run_at_once(place: Place) -> None:
    async with AsyncExitStack() as stack:
        resolve = {"origin.test": place.origin.address}
        servers: list[LabServer] = [
            await stack.enter_async_context(HttpProxy(resolve=resolve))
            for _ in range(AT_ONCE // AT_A_HOP + 1)
        ]
        names = await create_many(place, servers * AT_A_HOP)
        tests = [asyncio.create_task(place.probes.test(name)) for name in names]
        await place.origin.until(lambda: len(place.origin.requests) == AT_ONCE)
        assert sum(server.accepted for server in servers) == AT_ONCE
        place.origin.release.set()
        assert all([(await test).ok for test in tests])


async def test_many_are_tested_at_once_and_told_of_as_they_come(place: Place) -> None:
    busy = await create_many(place, [place.http] * (AT_A_HOP + 3))
    await place.create(place.socks5, name="other", type="socks5", host="proxy.test", family="ipv4")
    tests = place.probes.test_many([*busy, "gone", "other", "other"])
    first = await anext(tests)
    assert (first[0], first[1].code) == ("gone", "NOT_FOUND")
    await place.origin.until(lambda: len(place.origin.requests) == AT_A_HOP + 1)
    assert (place.http.accepted, place.socks5.accepted) == (AT_A_HOP, 1)
    place.origin.release.set()
    found = {key: result.ok async for key, result in tests}
    assert found == dict.fromkeys([*busy, "other"], True)


async def test_closing_many_begins_no_more_of_them(place: Place) -> None:
    names = await create_many(place, [place.http] * (AT_A_HOP + 3))
    tests = place.probes.test_many(["gone", *names])
    await anext(tests)
    await place.origin.until(lambda: len(place.origin.requests) == AT_A_HOP)
    await tests.aclose()
    place.origin.release.set()
    await place.http.until(lambda: place.http.open == 0)
    assert place.http.accepted == AT_A_HOP


async def test_closing_ends_the_tests_that_run(place: Place) -> None:
    await place.create(place.http)
    await hold(place)
    asking = asyncio.create_task(place.probes.test("dc"))
    await place.origin.until(lambda: place.origin.requests)
    await place.probes.aclose()
    result = await asking
    assert (result.ok, result.reason) == (False, Reason.ERROR)
    place.origin.release.set()
    await place.http.until(lambda: place.http.open == 0)


# -- what is remembered


async def test_last_result_holds_until_the_proxy_is_another(place: Place) -> None:
    id_ = await place.create(place.http)
    assert place.probes.last("dc") is None
    result = await place.probes.test("dc")
    assert place.probes.last("dc") is result
    await place.change(lambda edit: edit.proxies.update(id_, {"notes": "x"}))
    assert place.probes.last("dc") is result
    await place.change(lambda edit: edit.proxies.update(id_, {"family": "ipv4"}))
    assert place.probes.last("dc") is None
    await place.change(lambda edit: edit.proxies.update(id_, {"family": "auto"}))
    assert place.probes.last("dc") is result
    await place.change(lambda edit: edit.proxies.delete(id_))
    assert place.probes.last("dc") is None


async def test_failure_is_remembered_too(place: Place) -> None:
    await place.create(place.http)
    place.http.status = 403
    result = await place.failed("dc")
    assert place.probes.last("dc") is result


async def again(place: Place) -> Probes:
    """The tests as another process sees them that opens the registry."""
    await place.journal.flush()
    in_force = place.upkeep.in_force
    probes = Probes(in_force, Prober(in_force), place.journal)
    await probes.recall()
    return probes


async def test_results_outlive_the_process_as_long_as_the_proxy_is_the_same(place: Place) -> None:
    id_ = await place.create(place.http, username="u", password="s3cret")
    result = await place.probes.test("dc")
    place.http.status = 403
    failed = await place.failed("filed")
    later = await again(place)
    assert (later.last("dc"), later.last("filed")) == (result, failed)
    rows = await place.journal.tests()
    assert "s3cret" not in str(rows)
    await place.change(lambda edit: edit.proxies.update(id_, {"notes": "x", "password": "other"}))
    assert later.last("dc") == result  # credentials are no part of what the registry knows
    await place.change(lambda edit: edit.proxies.update(id_, {"family": "ipv4"}))
    assert later.last("dc") is None
    assert (await again(place)).last("dc") is None


async def test_result_of_this_process_stays_where_the_registry_has_an_older_one(
    place: Place,
) -> None:
    await place.create(place.http)
    result = await place.probes.test("dc")
    await place.journal.flush()
    old = {
        **(await place.journal.tests())[0],
        "result": result.model_copy(
            update={"at": "2025-01-01T00:00:00.000Z", "ok": False}
        ).model_dump_json(),
    }
    place.journal.put_tests([old])
    await place.journal.flush()
    await place.probes.recall()
    assert place.probes.last("dc") is result


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"ok": "maybe"}'])
async def test_result_that_was_edited_into_nonsense_is_none(place: Place, text: str) -> None:
    await place.create(place.http)
    await place.probes.test("dc")
    await place.journal.flush()
    (row,) = await place.journal.tests()
    place.journal.put_tests([{**row, "result": text}])
    assert (await again(place)).last("dc") is None


# -- what a test says about a proxy


async def test_each_test_is_evidence_about_its_proxy(place: Place) -> None:
    await place.create(place.socks5, type="socks5")
    await place.probes.test("dc")
    place.socks5.reply = 1
    await place.probes.test("dc")
    attempts = [said for said in place.reported if said[3].step == "attempt"]
    assert [said[3].step for said in place.reported] == ["dial", "attempt"] * 2
    (egress, target, pool, first), (*_, second) = attempts
    assert (egress.name, target, pool) == ("dc", ("origin.test", place.origin.port), "")
    assert (first.step, first.address, first.failure) == ("attempt", "127.0.0.1", None)
    assert first.hop is not None
    assert 0 < first.hop <= first.ended - first.began
    assert second.failure
    assert second.failure.cause is Cause.UNDECIDED


async def test_proxy_that_the_policy_does_not_use_is_no_evidence(place: Place) -> None:
    id_ = await place.create(place.http, status="inactive")
    await place.probes.test("dc")
    await place.change(lambda edit: edit.proxies.update(id_, {"status": "active"}))
    await hold(place)
    test = asyncio.create_task(place.probes.test("dc"))
    await place.origin.until(lambda: len(place.origin.requests) == 2)
    await place.change(lambda edit: edit.proxies.update(id_, {"username": "u"}))
    place.origin.release.set()
    assert (await test).ok
    assert [said[3].step for said in place.reported] == ["dial"]  # it was in force then


async def test_test_that_dialled_nothing_blames_nobody(place: Place) -> None:
    await place.create(place.http, host="v4.test", family="ipv6")
    await place.failed("dc")
    ((*_, outcome),) = place.reported
    assert outcome.failure
    assert (outcome.failure.cause, outcome.failure.reason) == (Cause.NOBODY, Reason.NO_RECORD)


def test_tls_checks_certificates_and_offers_no_http2() -> None:
    context = default_tls("origin.test")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("status", ["active", "inactive"])
async def test_what_a_person_said_of_a_proxy_outlives_its_failures(
    place: Place, status: str
) -> None:
    """No outcome of a test writes to the registry, or takes the proxy out of the policy."""
    place.http.faults.reset = "handshake"
    await place.create(place.http, status=status)
    before = place.upkeep.in_force.state
    for _ in range(3):
        await place.failed("dc")
    assert place.upkeep.in_force.registry
    assert place.upkeep.in_force.registry.load() == place.upkeep.in_force.state == before
    assert place.upkeep.in_force.snapshot.proxies["dc"].status == status
