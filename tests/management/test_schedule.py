"""Which members are checked when: nothing is lost, nothing comes in bursts."""

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.management import schedule as module
from egress_policy.management.schedule import (
    AT_A_HOP,
    AT_ONCE,
    INTERVAL,
    JITTER,
    TARGET_INTERVAL,
    Check,
    Pace,
    Schedule,
)
from egress_policy.model.proxy import Proxy
from egress_policy.policy.snapshot import Snapshot
from tests.helpers.checked import URLS, proxy, snapshot


def schedule(seed: int = 1) -> Schedule:
    return Schedule(random.Random(seed), Pace(INTERVAL))


def never(_check: Check) -> bool:
    return False


def run(
    subject: Schedule, start: float, seconds: float, takes: float = 0.0
) -> list[tuple[float, Check]]:
    """Go on for a time. Each check takes this long. Returns what was started when."""
    now, started, under_way = start, list[tuple[float, Check]](), list[tuple[float, Check]]()
    while now < start + seconds:
        while under_way and under_way[0][0] <= now:
            subject.ended(under_way.pop(0)[1], now)
        for check in subject.take(now, never):
            started.append((now, check))
            under_way.append((now + takes, check))
        coming = subject.next(now)
        times = [under_way[0][0]] if under_way else []
        times += [coming] if coming is not None else []
        now = max(min(times), now) if times else start + seconds
    return started


def test_each_member_is_checked_about_once_an_interval() -> None:
    subject = schedule()
    subject.plan(snapshot(50), 0.0)
    times: dict[str, list[float]] = {}
    for at, check in run(subject, 0.0, 600.0):
        times.setdefault(check.egress.name, []).append(at)
    assert len(times) == 50
    for found in times.values():
        assert found[0] <= 60.0 + 50 * INTERVAL
        gaps = [later - at for at, later in itertools.pairwise(found)]
        assert all(60 * (1 - JITTER) <= gap <= 60 * (1 + JITTER) + 50 * INTERVAL for gap in gaps)
        assert len({round(gap, 3) for gap in gaps}) > 1


def test_ten_thousand_members_are_late_rather_than_in_bursts() -> None:
    subject = schedule()
    subject.plan(snapshot(10_000), 0.0)
    started = run(subject, 0.0, 120.0)
    for second in range(0, 120, 10):
        assert len([at for at, _ in started if second <= at < second + 1]) <= 20
    assert len(started) >= 119 * 20
    assert 30 < subject.lag(120.0) < 120
    assert len({check.key for _, check in started}) == len(started)  # longest due first


def test_a_pool_of_one_target_asks_it_four_times_a_second_and_holds_up_no_other() -> None:
    subject = schedule()
    members = [f"p{number}" for number in range(100)]
    others = [f"o{number}" for number in range(5)]
    pools = [
        {"name": "one", "members": members, "checks": {"every": 1, "url": {"ipv4": URLS["ipv4"]}}},
        {"name": "greeted", "members": others, "checks": {"every": 1}},
    ]
    subject.plan(snapshot(proxies=[*map(proxy, members), *map(proxy, others)], pools=pools), 0.0)
    started = run(subject, 0.0, 20.0)
    asked = [at for at, check in started if check.target]
    assert 75 <= len(asked) <= 81
    assert min(b - a for a, b in itertools.pairwise(asked)) > TARGET_INTERVAL - 1e-6
    assert len([at for at, check in started if not check.target]) >= 5 * 15


def test_two_at_a_hop_address_and_the_others_go_on() -> None:
    subject = schedule()
    members = [f"p{number}" for number in range(10)]
    gateway = [proxy(name, host="gateway.test", username=name) for name in members]
    proxies = [*gateway, proxy("alone")]
    pools = [{"name": "homes", "members": [*members, "alone"], "checks": {"every": 1}}]
    subject.plan(snapshot(proxies=proxies, pools=pools), 0.0)
    started = []
    for number in range(100):
        started += subject.take(number / 10, never)
    assert sorted(check.egress.name == "alone" for check in started) == [False, False, True]
    gate = next(check for check in started if check.egress.name != "alone")
    assert subject.lag(10.0) > 8
    subject.ended(gate, 10.0)
    (following,) = subject.take(10.0, never)
    assert following.hop == ("gateway.test", 8080)


def test_no_more_than_thirty_two_run_at_once() -> None:
    subject = schedule()
    subject.plan(snapshot(100, {"every": 1}), 0.0)
    started = [check for number in range(100) for check in subject.take(number / 10, never)]
    assert len(started) == AT_ONCE
    assert subject.next(10.0) is None
    subject.ended(started[0], 10.0)
    assert subject.next(10.0) == 10.0
    assert len(subject.take(10.0, never)) == 1


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "one.test"),
        ({"family": "ipv4"}, "one.test"),
        ({"family": "ipv6"}, "six.test"),
        ({"family": "ipv4", "exit_family": "ipv6"}, "six.test"),
        ({"exit_family": "ipv6", "target_family": "ipv4"}, "one.test"),
    ],
)
def test_url_is_that_of_the_family_in_which_the_proxy_leaves(
    fields: dict[str, Any], host: str
) -> None:
    pools = [{"name": "homes", "members": ["one"], "checks": {"url": URLS}}]
    subject = schedule()
    subject.plan(snapshot(proxies=[proxy("one", **fields)], pools=pools), 0.0)
    found = subject.find(("homes", "one"))
    assert found
    assert found.target == (host, 80)
    assert found.egress.target_family == fields.get("target_family")


def test_a_family_without_a_url_is_greeted_and_auto_takes_the_one_that_is_there() -> None:
    checks = {"url": {"ipv6": URLS["ipv6"]}}
    pools = [{"name": "homes", "members": ["auto", "four"], "checks": checks}]
    subject = schedule()
    proxies = [proxy("auto"), proxy("four", family="ipv4")]
    subject.plan(snapshot(proxies=proxies, pools=pools), 0.0)
    targets = {check.egress.name: check.target for check in subject.checks()}
    assert targets == {"auto": ("six.test", 80), "four": None}


@pytest.mark.parametrize(
    "policy",
    [
        {"proxies": [proxy("p0", status="inactive")]},
        {"proxies": []},
        {"proxies": [proxy("p0", type="socks5")], "socks5_enabled": False},
        {"pools": [{"name": "homes", "members": ["p0"]}]},
    ],
    ids=["inactive", "deleted", "switched off", "no checks"],
)
def test_what_may_not_be_checked_is_not_planned(policy: dict[str, Any]) -> None:
    subject = schedule()
    subject.plan(snapshot(1), 0.0)
    assert len(subject) == 1
    subject.plan(snapshot(1, **policy), 1.0)
    assert len(subject) == 0
    assert subject.next(1.0) is None
    assert run(subject, 1.0, 200.0) == []


def test_an_edit_keeps_the_times_of_what_stays() -> None:
    edited, untouched = schedule(), schedule()
    for subject in (edited, untouched):
        subject.plan(snapshot(5), 0.0)
    seven = snapshot(7)
    edited.plan(seven, 10.0)
    edited.plan(snapshot(5), 10.0)
    first = [(at, check.key) for at, check in run(edited, 10.0, 40.0)]
    assert first == [(at, check.key) for at, check in run(untouched, 10.0, 40.0)]


def test_an_edit_of_one_proxy_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, before = schedule(), snapshot(100)
    subject.plan(before, 0.0)
    looked = list[str]()

    def usable(found: Proxy, _snapshot: Snapshot) -> bool:
        looked.append(found.name)
        return True

    monkeypatch.setattr(module, "is_usable", usable)
    others = {name: one for name, one in before.proxies.items() if name != "p7"}
    edited = before.proxies["p7"].model_copy(update={"port": 1})
    subject.plan(replace(before, proxies={**others, "p7": edited}), 1.0)
    subject.plan(replace(before, proxies=others), 2.0)
    assert looked == ["p7"]
    assert len(subject) == 99
    subject.plan(before, 3.0)
    assert len(subject) == 100


def test_a_shorter_interval_holds_at_once() -> None:
    subject = schedule()
    subject.plan(snapshot(5, {"every": 86_400}), 0.0)
    subject.plan(snapshot(5, {"every": 10}), 5.0)
    assert len({check.key for _, check in run(subject, 5.0, 11.0)}) == 5


def test_a_member_that_was_edited_while_it_is_checked_is_checked_again_as_it_is() -> None:
    subject = schedule()
    subject.plan(snapshot(1, {"every": 10}), 0.0)
    (old,) = subject.take(10.0, never)
    proxies = [proxy("p0", username="u")]
    subject.plan(snapshot(1, {"every": 10}, proxies=proxies), 11.0)
    assert subject.take(30.0, never) == []  # not while the old one runs
    subject.ended(old, 30.0)
    (new,) = subject.take(30.0, never)
    assert new.egress.proxy
    assert new.egress.proxy.username == "u"


def test_needless_checks_cost_no_turn() -> None:
    subject = schedule()
    subject.plan(snapshot(400, {"every": 1}), 0.0)
    (found,) = subject.take(2.0, lambda check: check.egress.name != "p7")
    assert found.egress.name == "p7"
    assert subject.lag(2.0) < 2.0


actions = st.lists(
    st.tuples(
        st.sampled_from(["take", "end", "plan", "wait"]), st.integers(0, 50), st.floats(0, 30)
    ),
    max_size=80,
)


@given(actions, st.integers(0, 2**32))
def test_whatever_comes_the_limits_hold_and_nobody_is_forgotten(
    made: list[tuple[str, int, float]], seed: int
) -> None:
    subject, now = schedule(seed), 0.0
    running: list[Check] = []
    last: dict[object, float] = {}
    names: list[str] = []
    for action, number, seconds in made:
        if action == "wait":
            now += seconds
        elif action == "plan":
            names = [f"p{one}" for one in range(number)]
            proxies = [
                proxy(name, host=f"h{one % 7}.test", port=1 + number % 3)
                for one, name in enumerate(names)
            ]
            checks = {"every": 1 + number % 4, "url": URLS if number % 2 else None}
            pools = [{"name": "homes", "members": names, "checks": checks}]
            subject.plan(snapshot(proxies=proxies, pools=pools), now)
        elif action == "end" and running:
            subject.ended(running.pop(number % len(running)), now)
        elif action == "take":
            for check in subject.take(now, lambda check: check.egress.name == "p3"):
                running.append(check)
                assert now - last.get("any", -1e9) > INTERVAL - 1e-6
                least = TARGET_INTERVAL if check.target else INTERVAL
                assert now - last.get(check.target, -1e9) > least - 1e-6
                last["any"] = last[check.target] = now
                hops = [one.hop for one in running]
                assert len(running) == subject.running <= AT_ONCE
                assert hops.count(check.hop) <= AT_A_HOP
                assert check.egress.name in names
    for check in running:
        subject.ended(check, now)
    assert subject.running == 0
    started = {check.egress.name for _, check in run(subject, now, 6.0 + len(names) / 2)}
    assert started == set(names)
