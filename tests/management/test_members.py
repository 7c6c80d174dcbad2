"""How the members of pools fare, and their leases, as the faces show it."""

import logging
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import NotFound, Reason
from egress_policy.management.management import Management
from egress_policy.management.members import expected_shares
from egress_policy.model.decision import Choice, Egress, Pin, Route, Target
from egress_policy.model.pool import Member
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import HopFailure, Outcome
from tests.helpers.management import hop, managed

NAMES = ("home-1", "home-2", "home-3")


def policy(**pool: Any) -> dict[str, Any]:
    """Three proxies in a pool that everything leaves by."""
    numbers = enumerate(NAMES, 1)
    return {
        "proxies": [hop(name, host=f"192.0.2.{number}") for number, name in numbers],
        "pools": [{"name": "homes", "members": list(NAMES), **pool}],
        "rules": [{"use": "homes"}],
    }


def pick(management: Management, client: str = "127.0.0.1") -> Egress:
    choice = management.router.choose(Target("a.example", 443, client))
    assert choice.egress, choice.refusal
    return choice.egress


def fail(management: Management, name: str, times: int = 3) -> None:
    """Report attempts that the proxy's machine turned down."""
    proxy = management.router.snapshot.proxies[name]
    route = Route(Choice(Egress(proxy)), Pin((proxy.host,), None), ("a.example", 443))
    failure = HopFailure(Reason.CONNECT_REFUSED, "cannot connect", Cause.REFUSED)
    for _ in range(times):
        now = management.router.clock()
        outcome = Outcome("attempt", proxy.host, failure, now, now)
        management.router.report(route, outcome)


async def test_members_show_both_words_and_what_was_picked(tmp_path: Path) -> None:
    made = policy(members=["home-1", {"name": "home-2", "weight": 3}, "home-3"])
    made["proxies"][2]["status"] = "inactive"
    async with managed(tmp_path, registry="", policy=made) as management:
        for _ in range(8):
            pick(management)
        found = management.members.list("file:homes")
    one, two, three = found.items
    assert (one.status, one.state, one.picks, one.share, one.expected_share) == (
        ("active", "closed", 2, 0.25, 0.25)
    )
    assert (two.weight, two.picks, two.share, two.expected_share) == (3, 6, 0.75, 0.75)
    assert (three.status, three.state, three.why) == ("inactive", "unusable", "it is inactive")
    assert (three.expected_share, three.retry_at) == (0, None)
    assert found.states == {"closed": 2, "unusable": 1}
    assert found.problem == ""


async def test_an_open_circuit_says_why_and_when_it_is_tried_again(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="", policy=policy()) as management:
        fail(management, "home-2")
        found = management.members.list("homes")
        _, two, _ = found.items
        assert (two.status, two.state, two.why) == ("active", "open", "3 x connect_refused")
        assert two.retry_in_s is not None
        assert 0 < two.retry_in_s <= 6
        assert two.retry_at is not None
        assert two.since is not None
        assert two.since < two.retry_at
        assert two.failures == 3
        assert two.last_failure is not None
        assert two.last_failure.reason == "connect_refused"
        assert [one.expected_share for one in found.items] == [0.5, 0, 0.5]
        only = management.members.list("homes", state="open")
        assert [one.proxy for one in only.items] == ["home-2"]
        assert (only.page.total, only.states) == (1, {"closed": 2, "open": 1})
        assert {pick(management).name for _ in range(9)} == {"home-1", "home-3"}


async def test_lists_and_status_show_circuits_where_flows_leave(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="", policy=policy()) as management:
        fail(management, "home-2")
        shown = {one.name: one for one in management.proxies.list().items}
        two = shown["home-2"]
        assert two.now is not None
        assert (two.status, two.now.state, two.now.why) == ("active", "open", "3 x connect_refused")
        assert [one.now.state for one in shown.values() if one.now] == ["closed", "open", "closed"]
        status = management.status()
        assert (status.circuits.open, status.circuits.half_open) == (1, 0)
        assert not status.circuits.own_network
        assert status.checks.lag_s == 0
    assert management.states.circuits().open == 0


async def test_a_suspicion_of_the_own_network_is_said(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="", policy=policy()) as management:
        silent = HopFailure(Reason.CONNECT_TIMEOUT, "no answer", Cause.NO_ANSWER)
        for name in NAMES:
            proxy = management.router.snapshot.proxies[name]
            choice = Choice(Egress(proxy), pool="homes")
            route = Route(choice, Pin((proxy.host,), None), ("a.example", 443))
            now = management.router.clock()
            for step in ("dial", "attempt"):
                outcome = Outcome(step, proxy.host, silent, now, now)
                management.router.report(route, outcome)
        found = management.members.list("homes")
        assert found.own_network
        assert found.states == {"closed": 3}
        status = management.status()
        assert status.circuits.own_network
        assert status.warnings[0].startswith("Own network?")
        kinds = [event.kind for event in management.events.list()]
        assert kinds == ["own-network"]


async def test_a_circuit_that_is_switched_off_is_shown_as_closed(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        for name in NAMES:
            await management.proxies.create(hop(name, host=f"192.0.2.{NAMES.index(name) + 1}"))
        await management.pools.create({"name": "homes", "members": list(NAMES)})
        fail(management, "home-2")
        assert management.states.circuits().open == 1
        await management.proxies.update("home-2", {"health": "ignore"})
        found = management.members.list("homes")
        assert (found.states, found.items[1].state) == ({"closed": 3}, "closed")
        assert management.states.circuits().open == 0


async def test_an_entry_that_is_not_in_force_fares_in_no_way(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        made = await management.proxies.create(hop("home-1"))
    async with managed(tmp_path, policy=policy()) as management:
        fail(management, "home-1")
        assert management.proxies.show(made.id).now is None
        shown = management.proxies.show("file:home-1").now
        assert shown is not None
        assert shown.state == "open"


async def test_a_person_closes_a_circuit_and_that_is_logged_and_an_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with managed(tmp_path, registry="", policy=policy()) as management:
        fail(management, "home-2")
        done = management.reset("file:home-2")
        assert (done.proxy, done.was, done.state) == ("home-2", "open", "closed")
        assert "home-2" in {pick(management).name for _ in range(3)}
        assert "proxy home-2: circuit reset" in caplog.text
        assert management.events.list("home-2")[0].kind == "reset"
        assert management.reset("home-2").was == "closed"
        with pytest.raises(NotFound):
            management.reset("nowhere")


async def test_a_full_member_and_one_with_another_exit_say_so(tmp_path: Path) -> None:
    made = policy()
    made["proxies"][0]["max_connections"] = 1
    made["proxies"][1]["exit_enforce"] = True
    made["proxies"][1]["exit_family"] = "ipv6"
    async with managed(tmp_path, registry="", policy=made) as management:
        proxy = management.router.snapshot.proxies["home-1"]
        choice = Choice(Egress(proxy))
        route = Route(choice, Pin((proxy.host,), None), ("a.example", 443))
        assert management.router.standing.enter(route)
        one, two, three = management.members.list("homes").items
        assert (one.state, one.active, one.limit) == ("full", 1, 1)
        assert one.why == "it has 1 connection, as many as its limit"
        assert two.state == "exit"
        assert two.why == "nobody has seen its exit in the last 15 min"
        assert three.state == "closed"
        management.known_exits.seen(
            management.router.snapshot.proxies["home-2"], "2001:db8::1", "test"
        )
        two = management.members.list("homes").items[1]
        assert two.state == "closed"
        assert two.exits is not None
        assert [seen.address for seen in two.exits.exits] == ["2001:db8::1"]


async def test_pages_of_members_count_all(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="", policy=policy()) as management:
        found = management.members.list("homes", limit=1, offset=1)
    assert [one.proxy for one in found.items] == ["home-2"]
    assert (found.page.total, found.states) == (3, {"closed": 3})


async def test_entries_that_are_not_in_force_say_why(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.proxies.create(hop("one"))
        gone = await management.proxies.create(hop("two"))
        pool = await management.pools.create({"name": "homes", "members": ["one", "two"]})
        await management.proxies.delete(gone.id, force=True)
        one, two = management.members.list(pool.id).items
        assert (one.state, two.state, two.why) == ("closed", "unusable", "it is deleted")
        file = {"proxies": [hop("one")], "pools": [{"name": "homes", "members": ["one"]}]}
        await management.pools.create({"name": "other", "members": ["one"]})
    async with managed(tmp_path, policy=file) as management:
        assert management.members.list("homes").problem == ""
        found = management.members.list(pool.id)
        assert "the policy file has this name too" in found.problem
        with pytest.raises(NotFound, match="not in use"):
            management.members.forget_leases(pool.id)
        [shadowed] = management.members.list("other").items
        assert shadowed.state == "unusable"
        assert "the policy file has this name too" in shadowed.why
        with pytest.raises(NotFound):
            management.members.list("nowhere")


async def test_leases_are_shown_as_digests_and_can_be_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = policy(strategy="sticky", sticky_by="client")
    caplog.set_level(logging.INFO)
    clients = [f"192.0.2.{number}" for number in range(100, 110)]
    async with managed(tmp_path, registry="", policy=made) as management:
        had = {client: pick(management, client).name for client in clients}
        found = management.members.leases("homes", limit=3)
        assert found.page.total == len(clients)
        assert len(found.items) == 3
        assert sum(found.members.values()) == len(clients)
        assert found.members[had[clients[-1]]] >= 1
        assert found.items[0].member == had[clients[-1]]
        assert 1790 < found.items[0].expires_in_s <= 1800
        shown = found.model_dump_json()
        assert not any(client in shown for client in clients)
        forgotten = management.members.forget_leases("file:homes")
        assert forgotten.forgotten == len(clients)
        assert management.members.leases("homes").page.total == 0
        assert "10 leases" in caplog.text


@pytest.mark.parametrize(
    ("strategy", "in_use", "expected"),
    [
        ("first", [False, True, True], [0, 1, 0]),
        ("first", [False, False, False], [0, 0, 0]),
        ("random", [True, True, True], [0.25, 0.5, 0.25]),
        ("round-robin", [True, False, True], [0.5, 0, 0.5]),
        ("sticky", [False, False, False], [0, 0, 0]),
    ],
)
def test_expected_shares_are_of_those_in_use(
    strategy: str, in_use: list[bool], expected: list[float]
) -> None:
    members = [Member(name="a"), Member(name="b", weight=2), Member(name="c")]
    assert expected_shares(members, in_use, strategy) == expected
