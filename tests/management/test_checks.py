"""The scheduler of checks: who is checked, and what is reported of it.

Decisions are by a simulated clock and a sender that answers at once; what is sent is shown with
real proxies.
"""

import asyncio
import logging

import pytest

from egress_policy.dns.resolver import DnsResolver
from egress_policy.errors import Reason
from egress_policy.management.checks import Checker
from egress_policy.management.in_force import PolicyInForce, closed_snapshot
from egress_policy.management.prober import Prober
from egress_policy.model.decision import Egress, Place
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import HopFailure, Outcome
from egress_policy.policy.snapshot import Snapshot
from egress_policy.router import EgressRouter
from tests.client.scene import CREDENTIALS, PATIENT, EchoOrigin, lab_proxy, trusting
from tests.helpers.checked import URLS, proxy, snapshot
from tests.helpers.checking import REFUSED, FakeCircuits, Policy, place, settle
from tests.helpers.filters import compile_word


async def test_while_everything_is_refused_nothing_is_sent() -> None:
    subject = place(1, {"every": 1, "members": "all"})
    subject.circuits.put("half-open", subject.egress("p0"))
    subject.policy = Policy(closed_snapshot(), "the policy file is broken")
    subject.__post_init__()
    await subject.go(10)
    assert subject.sender.sent == []


# -- checks that pools ask for


async def test_without_checks_nobody_is_checked() -> None:
    subject = place()
    subject.circuits.put("open", subject.egress("p0"))
    await subject.go(300)
    assert subject.sender.sent == []


async def test_only_members_that_are_down_are_checked_unless_all_are_wanted() -> None:
    subject = place(3, {"every": 10})
    subject.circuits.put("open", subject.egress("p1"))
    await subject.go(13)
    assert set(subject.sender.sent) == {("greet", "p1")}
    subject = place(3, {"every": 10, "members": "all"})
    await subject.go(13)
    assert {name for _, name in subject.sender.sent} == {"p0", "p1", "p2"}


async def test_url_is_asked_for_through_the_member_and_its_status_judged() -> None:
    subject = place(1, {"every": 10, "members": "all", "url": URLS, "expect": "204"})
    await subject.go(10)
    assert subject.sender.sent == [("one.test", "p0")]
    name, target, pool, outcome = subject.reported[0]
    assert (name, target, pool) == ("p0", ("one.test", 80), "homes")
    assert outcome.hop == 0.1
    assert outcome.failure
    assert outcome.failure.cause is Cause.UNDECIDED
    assert outcome.failure.what == "the check was answered 200, not 204"
    subject.sender.status = 204
    await subject.go(12)
    assert subject.reported[1][3].failure is None
    assert subject.checks.outcomes == {"undecided": 1, "ok": 1}


async def test_traffic_replaces_a_check() -> None:
    subject = place(2, {"every": 10, "members": "all"})
    await subject.go(0)
    for _ in range(60):
        subject.checks.saw(subject.egress("p0"))
        await subject.go(1)
    assert {name for _, name in subject.sender.sent} == {"p1"}
    assert subject.checks.outcomes["replaced"] >= 4
    await subject.go(23)
    assert ("greet", "p0") in subject.sender.sent


async def test_half_open_member_is_not_checked_beside_its_trial() -> None:
    subject = place(1, {"every": 1, "url": URLS})
    subject.sender.hold = asyncio.Event()
    subject.circuits.put("half-open", subject.egress("p0"))
    await subject.go(10)
    assert subject.sender.sent == [("greet", "p0")]
    subject.sender.hold.set()
    await settle()


@pytest.mark.parametrize("harm", ["limited", "credentials"])
async def test_member_that_a_check_would_harm_is_left_alone(harm: str) -> None:
    subject = place(1, {"every": 1, "url": URLS})
    subject.circuits.put("open", subject.egress("p0"))
    held = subject.circuits.held["p0"]
    held.limited = harm == "limited"
    if harm == "credentials":
        held.last = HopFailure(Reason.PROXY_AUTH, "wrong password", Cause.CREDENTIALS)
    await subject.go(10)
    assert subject.sender.sent == []
    held.limited, held.last = False, REFUSED
    await subject.go(2)
    assert subject.sender.sent[0] == ("one.test", "p0")


async def test_edit_holds_for_the_next_check_and_for_the_one_under_way() -> None:
    subject = place(2, {"every": 10, "members": "all"})
    subject.sender.hold = asyncio.Event()
    await subject.go(10)
    assert subject.checks.status().running == 2
    edited = snapshot(
        2, {"every": 10, "members": "all"}, proxies=[proxy("p0", notes="x"), proxy("p1", port=81)]
    )
    subject.policy.snapshot = edited
    await subject.go(0.5)
    assert [found[0] for found in subject.reported] == ["p1"]  # what it was is no longer in force
    assert subject.checks.status().running == 1


async def test_late_checks_show_as_a_lag() -> None:
    subject = place(100, {"every": 1, "members": "all", "url": {"ipv4": URLS["ipv4"]}})
    await subject.go(10)
    assert 8 < subject.checks.lag <= 10
    assert subject.checks.status().scheduled == 100
    assert subject.checks.status().lag_s == round(subject.checks.lag, 1)
    assert 36 <= len(subject.sender.sent) <= 41


# -- the task, and real proxies


def real(found: Snapshot) -> tuple[Checker, FakeCircuits, list[Outcome]]:
    """Checks that send, what they know, and what they report."""
    in_force = PolicyInForce(EgressRouter(found, DnsResolver()), compile_word)
    circuits, reported = FakeCircuits(), list[Outcome]()

    def report(egress: Egress, _target: Place, _pool: str, outcome: Outcome) -> None:
        reported.append(outcome)
        if outcome.step == "attempt":
            circuits.report(egress, outcome)

    prober = Prober(in_force, trusting, PATIENT)
    return Checker(Policy(found), prober, circuits, report), circuits, reported


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_real_proxy_comes_back_after_two_greetings(type_: str) -> None:
    async with lab_proxy(type_, {}, credentials=CREDENTIALS) as server:
        fields = {"type": type_, "host": "127.0.0.1", "port": server.port}
        if type_ == "https":
            fields["host"] = "localhost"
        exit_ = proxy("exit", **fields, username=CREDENTIALS[0], password=CREDENTIALS[1])
        found = snapshot(proxies=[exit_], pools=[{"name": "homes", "members": ["exit"]}])
        checks, circuits, reported = real(found)
        circuits.put("half-open", Egress(found.proxies["exit"]))
        checks.start()
        assert circuits.greets
        await server.until(lambda: server.accepted == 2 and not server.open)
        await checks.aclose()
    assert not circuits.greets
    assert [(outcome.step, outcome.failure) for outcome in reported] == [
        ("dial", None),
        ("attempt", None),
    ] * 2
    assert all(outcome.hop for outcome in reported if outcome.step == "attempt")
    assert server.requests == []


async def test_closing_ends_what_is_under_way() -> None:
    async with EchoOrigin() as origin, lab_proxy("socks5", {"origin.test": origin.address}) as one:
        fields = {"type": "socks5", "host": "127.0.0.1", "port": one.port}
        url = origin.url("origin.test", "/hold")
        how = {"every": 1, "members": "all", "url": {"ipv4": url}}
        pools = [{"name": "homes", "members": ["exit"], "checks": how}]
        checks, _, reported = real(snapshot(proxies=[proxy("exit", **fields)], pools=pools))
        checks.start()
        checks.start()
        await origin.until(lambda: origin.requests)
        await checks.aclose()
        origin.release.set()
        await one.until(lambda: not one.open)
        attempts = [one for one in reported if one.step == "attempt"]
        assert [one.failure and one.failure.cause for one in attempts] == [Cause.NOBODY]
        await checks.aclose()


async def test_a_step_that_fails_is_logged_and_the_next_one_is_made(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, steps = place(), asyncio.Event()

    def step() -> float:
        if caplog.records:
            steps.set()
            return 3600.0
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(subject.checks, "step", step)
    monkeypatch.setattr("egress_policy.management.checks._AFTER_ERROR", 0.0)
    with caplog.at_level(logging.ERROR):
        subject.checks.start()
        await asyncio.wait_for(steps.wait(), 10)
    assert "they go on" in caplog.text
    await subject.checks.aclose()
