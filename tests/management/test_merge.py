from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry, Reason
from egress_policy.management.merge import merge
from egress_policy.model.decision import Decision, Target
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy
from egress_policy.policy.engine import decide
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.proxy.filters import compile_filter
from egress_policy.registry.records import PolicyFileNames, RegistryState
from egress_policy.registry.registry import Registry
from tests.helpers.management import hop
from tests.helpers.registry import KEY, edits


def file(**stated: Any) -> Policy:
    return Policy.model_validate(stated)


@pytest.fixture
def book() -> Iterator[Registry]:
    registry = Registry.open(":memory:", KEY)
    yield registry
    registry.close()


def decision(stated: Policy, state: RegistryState | None, host: str = "x.test") -> Decision:
    merged = merge(stated, state, compile_filter)
    snapshot = build_snapshot(merged.policy, compile_filter, unusable=merged.unusable)
    return decide(snapshot, Target(host, 443, "127.0.0.1"))


def test_without_a_registry_the_file_is_the_policy() -> None:
    stated = file(default="refuse")
    assert merge(stated, None, compile_filter).policy is stated


def test_rules_of_the_file_go_first(book: Registry) -> None:
    edits(book).proxies.create(hop("one"))
    edits(book).rules.create({"name": "theirs", "use": "one"})
    stated = file(rules=[{"name": "ours", "hosts": ["a.test"], "use": "refuse"}])
    assert decision(stated, book.load(), "a.test").rule == "ours"
    assert decision(stated, book.load(), "b.test").rule == "theirs"


@pytest.mark.parametrize(
    ("by_file", "by_registry", "default"),
    [
        (None, None, "direct"),
        (None, "refuse", "refuse"),
        ("direct", "refuse", "direct"),
        ("refuse", "direct", "refuse"),
    ],
)
def test_default_of_the_file_holds_before_that_of_the_registry(
    book: Registry, by_file: str | None, by_registry: str | None, default: str
) -> None:
    edits(book).settings.put({"default": by_registry})
    merged = merge(file(default=by_file), book.load(), compile_filter)
    assert build_snapshot(merged.policy, compile_filter).default == default


def test_numbers_of_rules_do_not_collide(book: Registry) -> None:
    edits(book).rules.create({"hosts": ["b.test"], "use": "refuse"})
    stated = file(rules=[{"hosts": ["a.test"], "use": "refuse"}])
    assert decision(stated, book.load(), "a.test").rule == "file #1"
    assert decision(stated, book.load(), "b.test").rule == "#1"
    assert decision(stated, None, "a.test").rule == "#1"


def test_registry_may_use_entries_of_the_file(book: Registry) -> None:
    stated = file(proxies=[Proxy(name="ours", host="192.0.2.7")])
    book.elsewhere = PolicyFileNames(proxies={"ours"})
    edits(book).rules.create({"use": "ours"})
    assert [one.name for one in decision(stated, book.load()).members] == ["ours"]


@pytest.mark.parametrize("through", ["rule", "pool"])
def test_name_that_the_file_takes_later_makes_the_registrys_own_refuse(
    book: Registry, through: str
) -> None:
    edits(book).proxies.create(hop("one"))
    edits(book).pools.create({"name": "homes", "members": ["one"]})
    edits(book).rules.create({"use": "one" if through == "rule" else "homes"})
    taken = file(proxies=[Proxy(name="one", host="203.0.113.9")])
    assert decision(file(), book.load()).outcome == "egress"
    refused = decision(taken, book.load())
    assert refused.refusal is not None
    assert refused.refusal.reason in (Reason.DISABLED, Reason.POOL_EMPTY)
    assert "the policy file has this name too" in refused.refusal.detail


def test_entry_that_cannot_be_used_says_why_where_it_is_used(book: Registry) -> None:
    stored = edits(book).proxies.create(hop("one"))
    edits(book).rules.create({"use": "one"})
    state = book.load()
    unusable = replace(stored, value=None, problem="the stored family 'ipv7' is unknown")
    broken = replace(state, entries={**state.entries, "proxies": (unusable,)})
    refused = decision(file(), broken).refusal
    assert refused is not None
    assert refused.reason is Reason.DISABLED
    assert "the stored family 'ipv7' is unknown" in refused.detail


def test_rule_whose_filter_cannot_be_read_refuses_all_that_it_might_match(book: Registry) -> None:
    edits(book).proxies.create(hop("one"))
    book.elsewhere = PolicyFileNames()  # filters are taken as they are
    edits(book).rules.create({"hosts": ["a.test"], "filter": "~nonsense (", "use": "one"})
    assert decision(file(), book.load(), "a.test").outcome == "refuse"
    assert decision(file(), book.load(), "b.test").rule == "default"


def test_an_edit_leaves_all_that_it_is_not_about_the_same_objects(book: Registry) -> None:
    """From the registry to the snapshot, or each edit would cost as much as the first start."""
    with book.edit() as edit:
        made = [edit.proxies.create(hop(name)) for name in ("one", "two", "three")]
        edit.pools.create({"name": "homes", "members": ["one", "two"]})
        for use in ("one", "two", "three", "homes", "direct", {"host": "192.0.2.1"}):
            edit.rules.create({"use": use})
        edit.assignments.put("host", "a.test", made[2].id)
    stated = file(proxies=[Proxy(name="ours", host="192.0.2.7")])
    state, snapshot = book.load(), None
    for changed in ([], ["host:a.test", "#3"], ["host:a.test", "#3"], ["#1", "#4"]):
        if changed:
            id_ = made[0].id if "#1" in changed else made[2].id
            edits(book).proxies.update(id_, {"port": 2000 + len(changed)})
        state, before = book.load(state), snapshot
        policy = merge(stated, state, compile_filter).policy
        snapshot = build_snapshot(policy, compile_filter, previous=before)
        if before:
            kept = {id(bound) for bound in before.rules}
            assert [one.label for one in snapshot.rules if id(one) not in kept] == changed
            assert snapshot.index is before.index


@pytest.mark.parametrize("name", ["one (of the registry)", "one (deleted 68614e22)"])
def test_what_stands_for_an_entry_that_is_gone_is_nobodys_name(book: Registry, name: str) -> None:
    """A proxy of that name would bring the rule to life that refuses for want of the other."""
    proxy = Proxy(name=name, host="192.0.2.1")
    with pytest.raises(ValueError, match="reserved"):
        Policy(proxies=(proxy,))
    with pytest.raises(ValueError, match="reserved"):
        Policy(pools=(Pool(name=name, members=()),))
    with book.edit() as edit:
        with pytest.raises(InvalidEntry, match="reserved"):
            edit.proxies.create(proxy)
        made = edit.proxies.create({"name": "other", "host": "192.0.2.1"})
        with pytest.raises(InvalidEntry, match="reserved"):
            edit.proxies.update(made.id, {"name": name})
        with pytest.raises(InvalidEntry, match="reserved"):
            edit.pools.create({"name": name, "members": []})
