"""The router: the addresses that are dialled for the chosen egress."""

from typing import Any

import pytest

from egress_policy.errors import Reason
from egress_policy.model.decision import Choice, Egress, Pin, Refusal, Route
from egress_policy.model.proxy import Proxy
from egress_policy.policy.hop import LEFT, Outcome, broken
from egress_policy.router import EgressRouter
from tests.helpers.routing import EXIT, MODE, OTHER, V4, V6, Zone, router, to


async def route(subject: EgressRouter, host: str = "origin.test", **target: Any) -> Route | Refusal:
    choice = subject.choose(to(host, **target))
    return await subject.route(choice, host, 443, target.get("transport", "tcp"))


async def routed(subject: EgressRouter, host: str = "origin.test") -> Route:
    found = await route(subject, host)
    assert isinstance(found, Route), found
    return found


async def refused(subject: EgressRouter, host: str = "origin.test", **target: Any) -> Refusal:
    found = await route(subject, host, **target)
    assert isinstance(found, Refusal), found
    return found


async def test_an_open_choice_routes_nowhere() -> None:
    refusal = await refused(router({"filter": "~m POST", "use": "exit"}))
    assert refusal.reason is Reason.RULE
    assert "#1" in refusal.detail
    empty = await router().route(Choice(), "origin.test", 443, "tcp")
    assert isinstance(empty, Refusal)


async def test_udp_leaves_directly_over_the_pinned_family() -> None:
    subject = router({"use": "direct", "family": "ipv6"}, zone=Zone(origin_test=[V4, V6]))
    found = await route(subject, transport="udp")
    assert isinstance(found, Route)
    assert (found.pin.addresses, found.transport) == ((V6,), "udp")


async def test_a_route_over_a_proxy_pins_the_proxy_and_leaves_the_target_to_it() -> None:
    zone = Zone(proxy_test=[V6, V4, "192.0.2.2"], origin_test=[V4])
    found = await routed(router({"use": "exit"}, zone=zone))
    assert found.pin == Pin((V4, "192.0.2.2"), 4, 60, 1.5)
    assert (found.proxy.name, found.port, found.choice.rule) == ("exit", 1080, "#1")
    assert found.target == ("origin.test", 443)
    assert zone.asked == [("proxy.test", 4)]
    assert not found.is_stock


async def test_a_direct_route_pins_the_target_itself() -> None:
    zone = Zone(origin_test=[V4, V6])
    found = await routed(router({"use": "direct", "family": "ipv6"}, zone=zone))
    assert found.pin.addresses == (V6,)
    assert (found.target, found.port) == (("origin.test", 443), 443)
    assert zone.asked == [("origin.test", 6)]
    assert not found.is_stock
    with pytest.raises(ValueError, match="no proxy"):
        _ = found.proxy


async def test_a_direct_route_without_family_asks_nothing() -> None:
    zone = Zone(origin_test=[V4])
    found = await routed(router(zone=zone))
    assert found.pin == Pin(("origin.test",), None)
    assert found.is_stock
    assert zone.asked == []


async def test_a_family_that_the_host_has_not_is_a_refusal_that_names_the_way() -> None:
    refusal = await refused(router({"use": "exit"}, zone=Zone(proxy_test=[V6])))
    assert refusal.reason is Reason.NO_RECORD
    assert (refusal.proxy, refusal.rule, refusal.host) == ("exit", "#1", "proxy.test")
    assert refusal.detail == (
        "[ProxyFamily] Proxy host proxy.test has no IPv4 (A) record; "
        "refusing IPv4-only egress (fail-closed)"
    )


async def test_a_target_family_turns_the_name_into_a_literal() -> None:
    zone = Zone(proxy_test=[V4], origin_test=[V4, V6])
    found = await routed(router({"use": "exit", "target_family": "ipv6"}, zone=zone))
    assert found.target == (V6, 443)
    assert found.pin.addresses == (V4,)
    assert zone.asked == [("proxy.test", 4), ("origin.test", 6)]


async def test_a_target_literal_of_the_target_family_is_taken_as_it_is() -> None:
    zone = Zone(proxy_test=[V4])
    found = await routed(router({"use": "exit", "target_family": "ipv6"}, zone=zone), V6)
    assert found.target == (V6, 443)
    assert zone.asked == [("proxy.test", 4)]


@pytest.mark.parametrize(
    ("rule", "host"),
    [
        ({"use": "exit", "target_family": "ipv6"}, V4),
        ({"use": "exit", "target_family": "ipv4"}, V6),
        ({"use": "exit", "target_family": "ipv6"}, "::ffff:192.0.2.1"),
        ({"use": "direct", "family": "ipv6"}, V4),
        ({"use": "direct", "family": "ipv4"}, V6),
    ],
)
async def test_a_target_literal_of_the_other_family_is_a_refusal(
    rule: dict[str, Any], host: str
) -> None:
    refusal = await refused(router(rule, zone=Zone(proxy_test=[V4])), host)
    assert refusal.reason is Reason.LITERAL_CONTRADICTION
    assert refusal.detail.startswith("Target family directive ")
    assert (refusal.proxy, refusal.rule) == (rule["use"], "#1")


@pytest.mark.parametrize(
    "rule", [{"use": "exit", "target_family": "ipv6"}, {"use": "direct", "family": "ipv6"}]
)
async def test_a_target_without_a_record_of_its_family_is_a_refusal_that_says_target(
    rule: dict[str, Any],
) -> None:
    zone = Zone(proxy_test=[V4], origin_test=[V4])
    refusal = await refused(router(rule, zone=zone))
    assert (refusal.reason, refusal.host) == (Reason.NO_RECORD, "origin.test")
    assert (refusal.proxy, refusal.rule) == (rule["use"], "#1")
    assert refusal.detail == (
        "[ProxyFamily] Target host origin.test has no IPv6 (AAAA) record; "
        "refusing IPv6-only egress (fail-closed)"
    )


@pytest.mark.parametrize(
    "host", ["origin.test/?", "x@origin.test", "a b", "a\r\nb", "*", "", "a..b", "1.2.3.4.5"]
)
@pytest.mark.parametrize("use", ["direct", "exit", "other"])
async def test_a_host_that_is_none_is_refused_before_any_look_up(use: str, host: str) -> None:
    zone = Zone(proxy_test=[V4])
    refusal = await refused(router({"use": use}, zone=zone), host)
    assert (refusal.reason, refusal.proxy) == (Reason.DNS_FAILURE, "")
    assert refusal.host == host
    assert zone.asked == []


@pytest.mark.parametrize("use", ["exit", "other"])
async def test_a_scoped_literal_is_not_asked_of_a_proxy(use: str) -> None:
    refusal = await refused(router({"use": use}, zone=Zone(proxy_test=[V4])), "fe80::1%1")
    assert (refusal.reason, refusal.proxy) == (Reason.HANDSHAKE_FAILED, use)
    assert (refusal.host, refusal.rule) == ("fe80::1%1", "#1")


@pytest.mark.parametrize("port", [-1, 0, 65536])
@pytest.mark.parametrize("use", ["direct", "exit", "other"])
async def test_a_port_that_is_none_is_refused_before_any_look_up(use: str, port: int) -> None:
    zone = Zone(proxy_test=[V4])
    subject = router({"use": use}, zone=zone)
    refusal = await subject.route(subject.choose(to()), "origin.test", port, "tcp")
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.proxy) == (Reason.CONNECT_REFUSED, use)
    assert (refusal.host, refusal.rule) == ("origin.test", "#1")
    assert zone.asked == []


@pytest.mark.parametrize(
    "proxies",
    [[OTHER], [{**EXIT, "port": 1081}, OTHER], [{**EXIT, "status": "inactive"}, OTHER]],
    ids=["deleted", "edited", "disabled"],
)
async def test_a_proxy_that_changed_while_dns_was_asked_is_not_used(
    proxies: list[dict[str, Any]],
) -> None:
    subject = router({"use": "exit"}, zone=Zone(proxy_test=[V4]))
    choice = subject.choose(to())
    rules = [{"use": "exit"}] if len(proxies) > 1 else []
    subject.snapshot = router(*rules, proxies=proxies).snapshot
    found = await subject.route(choice, "origin.test", 443, "tcp")
    assert isinstance(found, Refusal)
    assert found.reason is Reason.DELETED
    assert (found.proxy, found.rule) == ("exit", "#1")


async def test_the_upstream_of_the_mode_is_no_entry_that_could_be_deleted() -> None:
    subject = router(zone=Zone(mode_test=[V4]))
    found = await subject.route(subject.choose(to(), unmatched=MODE), "origin.test", 443, "tcp")
    assert isinstance(found, Route)
    assert found.pin == Pin((V4,), None, dns_ms=1.5)
    subject.snapshot = router({"hosts": ["other.test"], "use": "exit"}).snapshot
    assert subject.is_current(found)
    subject.snapshot = router(default="refuse").snapshot
    assert not subject.is_current(found)


@pytest.mark.parametrize(
    ("rule", "zone"),
    [
        ({"use": "exit"}, Zone(proxy_test=["192.0.2.1", "192.0.2.2", "192.0.2.3"])),
        (
            {"use": "direct", "family": "ipv4"},
            Zone(origin_test=["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ),
    ],
    ids=["proxy", "direct"],
)
async def test_the_address_that_answered_last_is_dialled_first(
    rule: dict[str, Any], zone: Zone
) -> None:
    subject = router(rule, zone=zone)
    subject.report(await routed(subject), Outcome("dial", "192.0.2.3"))
    assert (await routed(subject)).pin.addresses == ("192.0.2.3", "192.0.2.1", "192.0.2.2")
    subject.report(await routed(subject), Outcome("dial", "192.0.2.2"))
    assert (await routed(subject)).pin.addresses == ("192.0.2.2", "192.0.2.1", "192.0.2.3")


async def test_an_attempt_that_was_ended_gives_the_trial_back_and_is_no_outcome() -> None:
    """The client of a trial left. Another connection may try the proxy at once."""
    subject, now, seen = router({"use": "exit"}, zone=Zone(proxy_test=[V4])), [100.0], []
    subject = EgressRouter(subject.snapshot, subject.resolver, clock=lambda: now[0])
    subject.on_outcome = lambda _, outcome: seen.append(outcome)
    found = await routed(subject)
    for _ in range(3):
        now[0] += 1
        failed = Outcome("attempt", V4, broken("it broke off"), now[0], now[0])
        subject.report(found, failed)
    assert subject.choose(to()).refusal
    now[0] += 10
    assert subject.choose(to()).egress
    assert subject.choose(to()).refusal
    now[0] += 1
    subject.report(found, Outcome("attempt", V4, LEFT, now[0], now[0]))
    assert len(seen) == 3
    assert subject.choose(to()).egress


async def test_an_egress_that_no_rule_uses_is_prepared_but_no_route() -> None:
    subject = router({"use": "direct"}, zone=Zone(proxy_test=[V4]))
    choice = Choice(Egress(Proxy.model_validate(EXIT), "ipv4"))
    prepared = await subject.prepare(choice, "origin.test", 443, "tcp")
    assert isinstance(prepared, Route)
    assert prepared.pin.addresses == (V4,)
    found = await subject.route(choice, "origin.test", 443, "tcp")
    assert isinstance(found, Refusal)
    assert found.reason is Reason.DELETED


@pytest.mark.parametrize(
    ("rule", "zone"),
    [
        ({"use": "exit"}, Zone(proxy_test=["203.0.113.1"])),
        ({"use": "direct", "family": "ipv6"}, Zone(origin_test=["2001:db8::1"])),
        ({"use": "other"}, Zone()),
        ({"use": "direct"}, Zone()),
        ({"use": "refuse"}, Zone()),
        ({"use": "direct", "family": "ipv4"}, Zone(origin_test=["2001:db8::1"])),
    ],
    ids=["proxy", "pinned", "literal", "direct", "refused", "no record"],
)
async def test_a_route_is_found_on_the_spot_once_nothing_has_to_be_asked(
    rule: dict[str, Any], zone: Zone
) -> None:
    subject = router(rule, zone=zone)
    choice = subject.choose(to())

    def on_the_spot() -> Route | None:
        return subject.route_now(choice, "origin.test", 443, "tcp")

    first = on_the_spot()
    assert zone.asked == []
    expected = await route(subject)
    assert on_the_spot() == (expected if isinstance(expected, Route) else None)
    assert first in (None, expected)
    assert (first is None) == bool(zone.asked or isinstance(expected, Refusal))


def test_a_route_on_the_spot_is_none_after_an_edit() -> None:
    subject = router({"use": "direct"})
    choice = subject.choose(to())
    subject.snapshot = router({"use": "direct"}, {"use": "refuse"}).snapshot
    assert subject.route_now(choice, "origin.test", 443, "tcp") is None


async def test_the_address_of_an_unpinned_proxy_that_answered_goes_first_next_time() -> None:
    proxies = [{"name": "auto", "host": "proxy.test"}]
    subject = router({"use": "auto"}, zone=Zone(proxy_test=[V6, V4]), proxies=proxies)
    subject.report(await routed(subject), Outcome("dial", V4))
    assert (await routed(subject)).pin.addresses == (V4, V6)


async def test_a_hop_is_prepared_without_a_target() -> None:
    zone = Zone(proxy_test=[V4, V6], origin_test=["192.0.2.7"])
    proxy = Proxy.model_validate({**EXIT, "target_family": "ipv4"})
    found = await router(zone=zone).prepare_hop(proxy)
    assert isinstance(found, Route)
    assert (found.pin.addresses, found.target) == ((V4,), ("proxy.test", 1080))
    assert found.egress.key == Egress(proxy, "ipv4").hop_key
    assert zone.asked == [("proxy.test", 4)]


async def test_a_hop_that_cannot_be_had_is_refused() -> None:
    subject = router(zone=Zone(proxy_test=[V6]))
    found = await subject.prepare_hop(Proxy.model_validate(EXIT))
    assert isinstance(found, Refusal)
    assert (found.reason, found.proxy) == (Reason.NO_RECORD, "exit")
    own = Proxy.model_validate({"name": "own", "host": "127.0.0.1", "port": 8080})
    subject.listeners.of_proxy = lambda: [("127.0.0.1", 8080)]
    found = await subject.prepare_hop(own)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.LOOP
