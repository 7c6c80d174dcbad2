"""What a registry does, whichever database it lies in: subclassed for SQLite and PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, text

from egress_policy.errors import (
    Conflict,
    EgressError,
    InUse,
    InvalidEntry,
    NotFound,
    Reason,
    WrongKey,
)
from egress_policy.model.decision import Target
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.subscription import ListSubscription
from egress_policy.policy.engine import decide
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.registry.engines import parse_location
from egress_policy.registry.precedence import policy_of, rules_of
from egress_policy.registry.records import PolicyFileNames, RegistryState
from egress_policy.registry.registry import Registry
from egress_policy.registry.subscriptions import MOST
from tests.helpers.filters import compile_word
from tests.helpers.registry import KEY, edits

OTHER_KEY = b"o" * 32

Connect = Callable[[], Registry]
Write = Callable[[], object]


def hop(name: str = "dc", **fields: object) -> dict[str, object]:
    return {"name": name, "host": "proxy.example.com", **fields}


def tamper(place: str, *statements: str) -> None:
    """Edit by hand, past every check that SQLite can be told to leave out."""
    engine = create_engine(parse_location(place))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()
    engine.dispose()


def dump(place: str) -> str:
    """All that lies in the database."""
    engine, metadata = create_engine(parse_location(place)), MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        rows = [
            str(row)
            for table in metadata.sorted_tables
            for row in connection.execute(table.select())
        ]
    engine.dispose()
    return "\n".join(rows)


def reason_for(state: RegistryState, host: str = "a.example") -> Reason | str:
    """Why a target is refused, or the egress that it gets."""
    snapshot = build_snapshot(policy_of(state), compile_word)
    decision = decide(snapshot, Target(host, 443, "192.0.2.1"))
    if decision.refusal:
        return decision.refusal.reason
    return ", ".join(member.name for member in decision.members)


def rejected(write: Callable[..., object], *args: object) -> InvalidEntry:
    """What is said about values that are wrong."""
    with pytest.raises(InvalidEntry) as caught:
        write(*args)
    assert caught.value.status == 400
    assert "s3cret" not in str(caught.value)
    return caught.value


def labels(state: RegistryState) -> list[str]:
    return [rule.name for rule in rules_of(state)]


LIST_URL = "https://list.example/proxies?token=s3cret"

WRONG_PROXIES: list[tuple[dict[str, object], str]] = [
    ({"name": ""}, "name"),
    ({"name": "Direct"}, "name"),
    ({"name": "taken"}, "name"),
    ({"name": "pool"}, "name"),
    ({"name": "filed"}, "name"),
    ({"host": "u:s3cret@h"}, "host"),
    ({"host": "127.1"}, "host"),
    ({"port": "1080"}, "port"),
    ({"port": 65536}, "port"),
    ({"family": "IPv6"}, "family"),
    ({"family": None}, "family"),
    ({"host": "192.0.2.1", "family": "ipv6"}, "family"),
    ({"host": "::ffff:192.0.2.1", "family": "ipv6"}, "family"),
    ({"type": "socks5", "username": "", "password": "p"}, "username"),
    ({"type": "vercel"}, "type"),
    ({"password": None}, "password"),
    ({"password": "s3cret\0"}, "password"),
    ({"notes": "\ud800"}, "notes"),
    ({"famliy": "ipv6"}, "famliy"),
    ({"health": "off"}, "health"),
    ({"max_connections": -1}, "max_connections"),
    ({"exit_family": "auto"}, "exit_family"),
    ({"exit_in": ["192.0.2.1/24"]}, "exit_in.0"),
    ({"exit_in": ["192.0.2.1"], "exit_family": "ipv6"}, "exit_in"),
    ({"exit_enforce": True}, "exit_enforce"),
    ({"tags": ["a b"]}, "tags.0"),
]

WRONG_POOLS: list[tuple[dict[str, object], str]] = [
    ({"members": ["gone"]}, "members"),
    ({"members": ["pool"]}, "members"),
    ({"members": ["v4", "v6"]}, "members"),
    ({"members": ["v4", "v4"]}, "members"),
    ({"strategy": "fastest"}, "strategy"),
    ({"sticky_minutes": 0}, "sticky_minutes"),
    ({"sticky_by": "header:"}, "sticky_by"),
    ({"members": [{"name": "v4", "weight": 0}]}, "members.0.weight"),
    ({"members": [{"name": "v4"}, "v4"]}, "members"),
    ({"failover": 6}, "failover"),
    ({"seed": -1}, "seed"),
    ({"checks": {"every": 0}}, "checks.every"),
    ({"checks": {"url": {"ipv4": "http://u:s3cret@a.example/"}}}, "checks.url.ipv4"),
    ({"name": "v4"}, "name"),
    ({"name": "refuse"}, "name"),
]

WRONG_RULES: list[tuple[dict[str, object], str]] = [
    ({"hosts": []}, "hosts"),
    ({"hosts": ["a/b"]}, "hosts.0"),
    ({"clients": ["192.0.2.1/24"]}, "clients.0"),
    ({"ports": [0]}, "ports.0"),
    ({"filter": "~~"}, "filter"),
    ({"filter": "yes\0"}, "filter"),
    ({"filter": "\ud800"}, "filter"),
    ({"use": "gone"}, "use"),
    ({"use": "http://u:s3cret@h"}, "use"),
    ({"use": {"host": "::1", "family": "ipv4"}}, "use.family"),
    ({"use": {"hots": "h", "host": "h"}}, "use.hots"),
    ({"use": {"name": "dc", "host": "h"}}, "name"),
    ({"use": "dc", "family": "ipv6"}, "family"),
    ({"use": "direct", "target_family": "ipv6"}, "target_family"),
    ({"name": "taken"}, "name"),
    ({"name": "Default"}, "name"),
    ({"when": "now"}, "when"),
]


class RegistryContract:
    """``place`` is a fixture of the subclass: where an empty database is."""

    @pytest.fixture
    def connect(self, place: str) -> Iterator[Connect]:
        with ExitStack() as opened:

            def connect() -> Registry:
                registry = Registry.open(place, KEY)
                opened.callback(registry.close)
                return registry

            yield connect

    @pytest.fixture
    def registry(self, connect: Connect) -> Registry:
        return connect()

    # -- subscriptions

    def test_subscription_is_kept_as_stated_and_its_url_encrypted(
        self, registry: Registry, connect: Connect, place: str
    ) -> None:
        fields = {"name": "seller", "url": LIST_URL, "via": "direct", "every_hours": 6}
        fields |= {"type": "http", "tags": ["eu"], "status": "inactive"}
        made = edits(registry).subscriptions.create(fields)
        [loaded] = connect().load().subscriptions
        assert loaded == made
        assert loaded.value == ListSubscription.model_validate(fields)
        assert "s3cret" not in repr(loaded) + str(loaded.raw) + str(dump(place))
        changed = edits(registry).subscriptions.update(made.id, {"type": None, "every_hours": 0})
        assert changed.value == ListSubscription.model_validate(
            {**fields, "type": None, "every_hours": 0}
        )
        tamper(place, "UPDATE subscriptions SET url = 'x'")
        [broken] = registry.load().subscriptions
        assert (broken.value, broken.problem) == (
            *(None, "the stored URL cannot be decrypted; set it again"),
        )
        assert edits(registry).subscriptions.update(made.id, {"url": LIST_URL}).value

    def test_wrong_field_of_a_subscription_is_named(self, registry: Registry) -> None:
        fields = {"name": "seller", "url": LIST_URL, "via": "direct"}
        edits(registry).pools.create({"name": "homes", "members": []})
        registry.elsewhere = PolicyFileNames(proxies={"filed"})
        edits(registry).subscriptions.create({**fields, "name": "taken", "via": "filed"})
        for wrong, field in (
            ({"name": "taken"}, "name"),
            ({"name": ""}, "name"),
            ({"url": "ftp://s3cret.example/"}, "url"),
            ({"url": "https://u:s3cret@list.example/"}, "url"),
            ({"url": "https://list.example/\u00e9"}, "url"),
            ({"url": ""}, "url"),
            ({"via": "nobody"}, "via"),
            ({"via": "homes"}, "via"),
            ({"every_hours": 721}, "every_hours"),
            ({"every_hours": -1}, "every_hours"),
            ({"type": "socks4"}, "type"),
            ({"tags": ["a b"]}, "tags.0"),
            ({"status": "on"}, "status"),
            ({"family": "ipv4"}, "family"),
        ):
            error = rejected(edits(registry).subscriptions.create, {**fields, **wrong})
            assert (wrong, error.field) == (wrong, field)
        assert len(registry.load().subscriptions) == 1

    def test_proxies_of_a_subscription_outlive_it(self, registry: Registry) -> None:
        fields = {"name": "seller", "url": LIST_URL, "via": "direct"}
        made = edits(registry).subscriptions.create(fields)
        edits(registry).proxies.create(hop(), subscription=made.id)
        registry.journal.put_fetches([{"subscription": made.id, "at": "", "result": "{}"}])
        before = registry.load()
        assert before.proxies[0].subscription_id == made.id
        edits(registry).proxies.update(before.proxies[0].id, {"region": "eu"})
        assert registry.load().proxies[0].subscription_id == made.id
        edits(registry).subscriptions.delete(made.id)
        after = registry.load(before)
        assert (after.subscriptions, registry.journal.fetches()) == ((), [])
        assert [one.subscription_id for one in after.proxies] == [""]

    def test_there_are_only_so_many_subscriptions(self, registry: Registry) -> None:
        with registry.edit() as edit:
            for number in range(MOST):
                fields = {"name": f"s{number}", "url": LIST_URL, "via": "direct"}
                edit.subscriptions.create(fields)
        fields = {"name": "one more", "url": LIST_URL, "via": "direct"}
        assert rejected(edits(registry).subscriptions.create, fields).field == "name"

    # -- proxies

    def test_proxy_is_kept_as_stated(self, registry: Registry, connect: Connect) -> None:
        fields = hop(type="socks5", port=1081, family="ipv6", username="alice", password="s3cret")
        fields |= {"target_family": "ipv4", "region": "eu", "notes": "a\nb", "status": "inactive"}
        fields |= {"health": "ignore", "max_connections": 20, "exit_family": "ipv6"}
        fields |= {"exit_in": ["2001:db8::/32", "2001:db8:1::7"], "exit_enforce": True}
        fields |= {"tags": ["eu", "größe"]}
        made = edits(registry).proxies.create(fields)
        [loaded] = connect().load().proxies
        assert loaded == made
        assert loaded.proxy == Proxy.model_validate(fields)
        assert (loaded.problem, loaded.created_at) == ("", loaded.updated_at)
        assert loaded.raw["family"] == "ipv6"

    def test_what_is_left_out_has_its_default(self, registry: Registry) -> None:
        proxy = edits(registry).proxies.create(hop(type="socks5")).proxy
        assert proxy == Proxy(name="dc", host="proxy.example.com", type="socks5", port=1080)

    def test_change_leaves_the_other_fields_alone(self, registry: Registry) -> None:
        fields = hop(type="socks5", family="ipv6", username="u", password="p", status="inactive")
        fields |= {"max_connections": 5, "exit_in": ["192.0.2.0/24"], "exit_enforce": True}
        made = edits(registry).proxies.create(fields)
        changed = edits(registry).proxies.update(made.id, {"region": "eu"})
        assert changed.proxy == Proxy.model_validate({**fields, "region": "eu"})
        assert changed == registry.load().proxies[0]
        assert changed.etag != made.etag

    def test_blank_password_removes_it(self, registry: Registry) -> None:
        made = edits(registry).proxies.create(hop(username="u", password="s3cret"))
        changed = edits(registry).proxies.update(made.id, {"password": ""})
        assert changed.proxy
        assert changed.proxy.password.get_secret_value() == ""

    def test_wrong_field_is_named_and_nothing_is_changed(self, registry: Registry) -> None:
        registry.elsewhere = PolicyFileNames(proxies={"filed"})
        edits(registry).proxies.create(hop("taken"))
        edits(registry).pools.create({"name": "pool", "members": []})
        made = edits(registry).proxies.create(hop())
        before = registry.load()
        for fields, field in WRONG_PROXIES:
            errors = [
                rejected(edits(registry).proxies.create, {**hop("new"), **fields}),
                rejected(edits(registry).proxies.update, made.id, fields),
            ]
            for error in errors:
                assert (fields, error.field) == (fields, field)
        assert registry.load() == before

    def test_contradiction_has_the_words_of_the_contract(self, registry: Registry) -> None:
        made = edits(registry).proxies.create(hop(host="192.0.2.1"))
        with pytest.raises(InvalidEntry) as caught:
            edits(registry).proxies.update(made.id, {"family": "ipv6"})
        assert str(caught.value) == "Proxy family directive ipv6 contradicts IPv4 literal host"

    def test_change_for_another_state_conflicts(self, registry: Registry, connect: Connect) -> None:
        made, other = edits(registry).proxies.create(hop()), connect()
        edits(other).proxies.update(made.id, {"family": "ipv6"}, if_match=made.etag)
        writes: list[Write] = [
            lambda: edits(registry).proxies.update(made.id, {"family": "ipv4"}, if_match=made.etag),
            lambda: edits(registry).proxies.delete(made.id, if_match=made.etag),
        ]
        for write in writes:
            with pytest.raises(Conflict) as caught:
                write()
            assert caught.value.status == 412
        [proxy] = registry.load().proxies
        assert proxy.raw["family"] == "ipv6"

    @pytest.mark.parametrize("id_", ["", "nothing", "\0", "\ud800", "a" * 1000, None])
    def test_unknown_id_is_not_found(self, registry: Registry, id_: Any) -> None:
        writes: list[Write] = [
            lambda: edits(registry).proxies.update(id_, {}),
            lambda: edits(registry).proxies.delete(id_),
            lambda: edits(registry).pools.update(id_, {}),
            lambda: edits(registry).rules.update(id_, {}),
            lambda: edits(registry).rules.delete(id_),
            lambda: edits(registry).assignments.put("host", "a.example", id_ or "0"),
        ]
        for write in writes:
            with pytest.raises(NotFound) as caught:
                write()
            assert caught.value.status == 404
        assert registry.revision() == 0

    # -- deleting

    def test_unused_proxy_goes(self, registry: Registry) -> None:
        edits(registry).proxies.delete(edits(registry).proxies.create(hop()).id)
        assert registry.load().proxies == ()
        edits(registry).proxies.create(hop())

    def test_proxy_in_use_stays_and_the_usage_is_told(self, registry: Registry) -> None:
        dc = edits(registry).proxies.create(hop())
        pool = edits(registry).pools.create({"name": "homes", "members": ["dc"]})
        rules = [edits(registry).rules.create({"name": name, "use": "dc"}) for name in ("", "all")]
        assigned = edits(registry).assignments.put("host", "a.example", dc.id)
        with pytest.raises(InUse) as caught:
            edits(registry).proxies.delete(dc.id)
        usage = caught.value.usage
        assert caught.value.status == 409
        assert [(ref.id, ref.name) for ref in usage.pools] == [(pool.id, "homes")]
        assert [(ref.id, ref.name) for ref in usage.rules] == [
            (rules[0].id, "#1"),
            (rules[1].id, "all"),
        ]
        assert assigned
        assert [(ref.id, ref.name) for ref in usage.assignments] == [
            (assigned.id, "host:a.example")
        ]
        assert usage.count == 4
        assert len(registry.load().proxies) == 1

    @pytest.mark.parametrize("user", ["rule", "pool", "assignment"])
    def test_what_used_a_deleted_proxy_refuses_even_when_the_name_comes_back(
        self, registry: Registry, place: str, user: str
    ) -> None:
        dc = edits(registry).proxies.create(hop(username="u", password="s3cret"))
        if user == "rule":
            edits(registry).rules.create({"use": "dc"})
        elif user == "pool":
            edits(registry).pools.create({"name": "homes", "members": ["dc"]})
            edits(registry).rules.create({"use": "homes"})
        else:
            edits(registry).assignments.put("host", "*.example", dc.id)
        assert reason_for(registry.load()) == "dc"
        edits(registry).proxies.delete(dc.id, force=True)
        expected = Reason.POOL_EMPTY if user == "pool" else Reason.DELETED
        assert reason_for(registry.load()) == expected
        again = edits(registry).proxies.create(hop())
        assert again.id != dc.id
        assert reason_for(registry.load()) == expected
        assert dump(place).count("v1:") == 1  # what it knows its key by

    def test_rule_of_a_deleted_proxy_can_be_edited_and_given_another(
        self, registry: Registry
    ) -> None:
        dc = edits(registry).proxies.create(hop())
        rule = edits(registry).rules.create({"use": "dc"})
        edits(registry).proxies.delete(dc.id, force=True)
        edits(registry).proxies.create(hop("new"))
        assert (
            edits(registry).rules.update(rule.id, {"ports": [443]}).rule.use
            == f"dc (deleted {dc.id[:8]})"
        )
        assert edits(registry).rules.update(rule.id, {"use": "new"}).rule.use == "new"
        with pytest.raises(NotFound):
            edits(registry).proxies.update(dc.id, {"status": "active"})

    def test_pool_in_use_is_deleted_by_force_only(self, registry: Registry) -> None:
        dc = edits(registry).proxies.create(hop())
        pool = edits(registry).pools.create({"name": "homes", "members": ["dc"]})
        rule = edits(registry).rules.create({"use": "homes"})
        with pytest.raises(InUse) as caught:
            edits(registry).pools.delete(pool.id)
        assert [ref.id for ref in caught.value.usage.rules] == [rule.id]
        edits(registry).pools.delete(pool.id, force=True)
        assert reason_for(registry.load()) == Reason.DELETED
        edits(registry).proxies.delete(dc.id)
        assert registry.load().pools == ()

    # -- pools

    def test_pool_is_kept_as_stated_and_follows_its_members(self, registry: Registry) -> None:
        one, two = (
            edits(registry).proxies.create(hop("one")),
            edits(registry).proxies.create(hop("two")),
        )
        fields: dict[str, object] = {"name": "homes", "members": ["two", "one"]}
        fields |= {"strategy": "first", "sticky_by": "host", "sticky_minutes": 5}
        made = edits(registry).pools.create(fields)
        assert made.pool
        assert made.pool == Pool.model_validate(fields)
        edits(registry).proxies.update(two.id, {"name": "three"})
        [renamed] = registry.load().pools
        assert renamed.pool
        assert renamed.pool.names == ("three", "one")
        assert renamed.etag != made.etag
        changed = edits(registry).pools.update(made.id, {"members": ["one"]}, if_match=renamed.etag)
        assert changed.pool
        assert (changed.pool.names, changed.pool.sticky_minutes) == (("one",), 5)
        edits(registry).proxies.delete(two.id)
        with pytest.raises(InUse) as caught:
            edits(registry).proxies.delete(one.id)
        assert caught.value.usage.count == 1

    def test_pool_keeps_weights_fail_over_seed_and_checks(
        self, registry: Registry, connect: Connect, place: str
    ) -> None:
        registry.elsewhere = PolicyFileNames(proxies={"filed"})
        edits(registry).proxies.create(hop("one"))
        fields: dict[str, object] = {
            "name": "homes",
            "members": [{"name": "one", "weight": 1000}, {"name": "filed", "weight": 2}],
            "strategy": "sticky",
            "sticky_by": "header:x-account",
            "failover": 0,
            "seed": (1 << 53) - 1,
            "checks": {"every": "5m", "url": {"ipv6": "https://a.example/"}, "members": "all"},
        }
        made = edits(registry).pools.create(fields)
        [loaded] = connect().load().pools
        assert loaded == made
        assert loaded.pool == Pool.model_validate(fields)
        changed = edits(registry).pools.update(made.id, {"failover": 5}).pool
        assert changed == Pool.model_validate({**fields, "failover": 5})
        unset = {"seed": None, "checks": None, "members": ["filed"]}
        assert edits(registry).pools.update(made.id, unset).pool == Pool.model_validate(
            {**fields, "failover": 5, **unset}
        )
        tamper(place, "UPDATE pools SET checks = '{'")
        assert registry.load().pools[0].problem

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE proxy_registry SET exit_in = '[\"nowhere\"]'",
            "UPDATE proxy_registry SET exit_in = 'nowhere'",
            "UPDATE proxy_registry SET exit_family = 'IPv6'",
            "UPDATE proxy_registry SET tags = 'eu'",
            "UPDATE proxy_registry SET exit_family = 'ipv4'",
            "UPDATE proxy_registry SET health = 'never'",
            "UPDATE proxy_registry SET max_connections = -1",
            "UPDATE pool_members SET weight = 0",
            "UPDATE pools SET checks = '[]'",
            "UPDATE pools SET strategy = 'fastest'",
        ],
    )
    def test_what_cannot_be_read_after_an_edit_by_hand_refuses(
        self, registry: Registry, place: str, statement: str
    ) -> None:
        edits(registry).proxies.create(hop(exit_in=["2001:db8::/32"], exit_enforce=True))
        edits(registry).pools.create({"name": "homes", "members": ["dc"]})
        edits(registry).rules.create({"use": "homes"})
        assert reason_for(registry.load()) == "dc"
        tamper(place, statement)
        state = registry.load()
        assert any(one.problem for one in (*state.proxies, *state.pools))
        assert isinstance(reason_for(state), Reason)

    def test_pool_may_have_more_members_than_one_query_can_name(self, registry: Registry) -> None:
        names = [f"p{number}" for number in range(1201)]
        with registry.edit() as edit:
            for name in names:
                edit.proxies.create(hop(name))
        registry.elsewhere = PolicyFileNames(proxies={"filed"})
        made = edits(registry).pools.create({"name": "homes", "members": [*names, "filed"]})
        assert made.pool
        assert made.pool.names == (*names, "filed")
        changes = {"members": [*names, "gone", "homes"]}
        assert "'gone' names no proxy" in str(
            rejected(edits(registry).pools.update, made.id, changes)
        )

    def test_wrong_pool_is_named_and_nothing_is_changed(self, registry: Registry) -> None:
        edits(registry).proxies.create(hop("v4", family="ipv4"))
        edits(registry).proxies.create(hop("v6", family="ipv6"))
        pool = edits(registry).pools.create({"name": "pool", "members": ["v4"]})
        before = registry.load()
        for fields, field in WRONG_POOLS:
            errors = [
                rejected(edits(registry).pools.create, {"name": "new", "members": [], **fields}),
                rejected(edits(registry).pools.update, pool.id, fields),
            ]
            for error in errors:
                assert (fields, error.field) == (fields, field)
        assert registry.load() == before

    def test_member_cannot_be_pinned_against_its_pool(self, registry: Registry) -> None:
        one = edits(registry).proxies.create(hop("one"))
        edits(registry).proxies.create(hop("two", family="ipv4"))
        edits(registry).pools.create({"name": "homes", "members": ["one", "two"]})
        with pytest.raises(InvalidEntry, match="'two', pinned to ipv4") as caught:
            edits(registry).proxies.update(one.id, {"family": "ipv6"})
        assert caught.value.field == "family"
        edits(registry).proxies.update(one.id, {"family": "ipv4"})

    # -- rules

    @pytest.mark.parametrize(
        "fields",
        [
            {"hosts": ["API.example.com", "*.example.org"], "use": "dc"},
            {
                "name": "all",
                "clients": ["192.0.2.0/24", "2001:db8::1"],
                "ports": [443],
                "use": "homes",
            },
            {"filter": "later", "use": "refuse"},
            {"use": "direct", "family": "ipv6"},
            {"use": "dc", "target_family": "ipv4"},
            {"use": "filed"},
            {"use": {"type": "socks5", "host": "h", "username": "u", "password": "s3cret"}},
            {"use": {"name": "inline", "host": "192.0.2.7", "family": "ipv4", "port": 3128}},
        ],
    )
    def test_rule_is_kept_as_stated(
        self, registry: Registry, connect: Connect, place: str, fields: dict[str, Any]
    ) -> None:
        registry.elsewhere = PolicyFileNames(proxies={"filed"}, compile_filter=compile_word)
        edits(registry).proxies.create(hop())
        edits(registry).pools.create({"name": "homes", "members": ["dc"]})
        made = edits(registry).rules.create(fields)
        [loaded] = connect().load().rules
        assert loaded.rule == type(loaded.rule).model_validate(fields)
        assert loaded == made
        assert loaded.label == fields.get("name", "#1")
        changed = edits(registry).rules.update(made.id, {"ports": [1]}, if_match=made.etag)
        assert changed.rule == loaded.rule.model_copy(update={"ports": (1,)})
        assert edits(registry).rules.update(made.id, {"ports": None}).rule.ports == ()
        assert "s3cret" not in dump(place)
        edits(registry).rules.delete(made.id)
        assert registry.load().rules == ()

    def test_wrong_rule_is_named_and_nothing_is_changed(self, registry: Registry) -> None:
        registry.elsewhere = PolicyFileNames(compile_filter=compile_word)
        edits(registry).proxies.create(hop())
        edits(registry).rules.create({"name": "taken", "use": "dc"})
        rule = edits(registry).rules.create({"use": "dc", "ports": [1]})
        before = registry.load()
        for fields, field in WRONG_RULES:
            errors = [
                rejected(edits(registry).rules.create, {"use": "dc", **fields}),
                rejected(edits(registry).rules.update, rule.id, fields),
            ]
            for error in errors:
                assert (fields, error.field) == (fields, field)
        assert registry.load() == before

    def test_inline_proxy_is_replaced_whole_and_goes_with_its_rule(
        self, registry: Registry, place: str
    ) -> None:
        rule = edits(registry).rules.create({"use": {"host": "one.example", "family": "ipv6"}})
        assert "one.example" in dump(place)
        changed = edits(registry).rules.update(rule.id, {"use": {"host": "two.example"}})
        assert isinstance(changed.rule.use, Proxy)
        assert changed.rule.use.family == "auto"
        assert "one.example" not in dump(place)
        edits(registry).rules.delete(rule.id)
        assert "two.example" not in dump(place)

    def test_rules_follow_the_names_of_what_they_use(self, registry: Registry) -> None:
        dc = edits(registry).proxies.create(hop())
        pool = edits(registry).pools.create({"name": "homes", "members": ["dc"]})
        rules = [edits(registry).rules.create({"use": use}) for use in ("dc", "homes")]
        edits(registry).proxies.update(dc.id, {"name": "dc2"})
        edits(registry).pools.update(pool.id, {"name": "flats"})
        now = registry.load().rules
        assert [rule.rule.use for rule in now] == ["dc2", "flats"]
        assert all(old.etag != new.etag for old, new in zip(rules, now, strict=True))

    def test_rules_are_kept_in_any_order_they_are_put_into(self, registry: Registry) -> None:
        random, order = Random(7), list[str]()
        for name in "abcdefgh":
            before = random.choice([None, *order])
            ids = {rule.label: rule.id for rule in registry.load().rules}
            made = edits(registry).rules.create(
                {"name": name, "use": "refuse"}, before and ids[before]
            )
            order.insert(order.index(before) if before else len(order), name)
            assert made.number == order.index(name) + 1
            assert made in registry.load().rules
        ids = {rule.label: rule.id for rule in registry.load().rules}
        for _ in range(15):
            name = random.choice(order)
            before = random.choice([None, *(other for other in order if other != name)])
            moved = edits(registry).rules.move(ids[name], before and ids[before])
            order.remove(name)
            order.insert(order.index(before) if before else len(order), name)
            assert moved.number == order.index(name) + 1
            assert labels(registry.load()) == order
        random.shuffle(order)
        edits(registry).rules.reorder([ids[name] for name in order])
        assert labels(registry.load()) == order

    def test_a_gap_between_rules_is_never_used_up(self, registry: Registry) -> None:
        first, *others = (edits(registry).rules.create({"name": n, "use": "refuse"}) for n in "abc")
        with registry.edit() as edit:
            for turn in range(50):  # always between the first two: each time in half the room
                edit.rules.move(others[turn % 2].id, others[1 - turn % 2].id)
        assert labels(registry.load()) == ["a", "c", "b"]
        with pytest.raises(InvalidEntry) as caught:
            edits(registry).rules.move(first.id, first.id)
        assert caught.value.field == "before"

    def test_a_rule_that_cannot_stand_anywhere_is_rejected_before_its_place_is_looked_for(
        self, registry: Registry
    ) -> None:
        with pytest.raises(InvalidEntry) as caught:
            edits(registry).rules.create({"name": "Default", "use": "direct"}, "no such rule")
        assert caught.value.field == "name"

    def test_order_of_other_rules_than_there_are_conflicts(self, registry: Registry) -> None:
        ids = [edits(registry).rules.create({"use": "refuse"}).id for _ in range(2)]
        for wrong in ([], ids[:1], [*ids, ids[0]], [ids[0], ids[0]], [*ids, "gone"]):
            with pytest.raises(Conflict):
                edits(registry).rules.reorder(wrong)
        with pytest.raises(InvalidEntry):
            edits(registry).rules.move(ids[0], "gone")

    # -- assignments and settings

    def test_a_scope_has_one_proxy(self, registry: Registry, connect: Connect) -> None:
        one, two = (edits(registry).proxies.create(hop(name)).id for name in ("one", "two"))
        made = edits(registry).assignments.put("host", "API.Example.com.", one)
        again = edits(connect()).assignments.put("host", "api.example.com", two)
        assert made
        assert again
        assert made.id == again.id
        assert [(it.scope_id, it.proxy_id) for it in registry.load().assignments] == [
            ("api.example.com", two)
        ]
        with pytest.raises(Conflict):
            edits(registry).assignments.put("host", "api.example.com", one, if_match=made.etag)
        assert (
            edits(registry).assignments.put("host", "api.example.com", None, if_match=again.etag)
            is None
        )
        assert registry.load().assignments == ()

    def test_a_scope_stays_in_its_group_until_it_gets_another(
        self, registry: Registry, connect: Connect
    ) -> None:
        one, two = (edits(registry).proxies.create(hop(name)).id for name in ("one", "two"))
        put = edits(registry).assignments.put
        made = put("user", "alice", one, group="shop")
        assert made.group == "shop"
        assert put("user", "alice", two).group == "shop"
        [loaded] = connect().load().assignments
        assert (loaded.group, loaded.proxy_id) == ("shop", two)
        other = put("user", "alice", two, group="bank")
        assert (other.group, other.etag != loaded.etag) == ("bank", True)
        for group in (" ", "g" * 121, "a\0", "\ud800"):
            assert rejected(put, "user", "alice", two, None, group).field == "group"
        assert put("user", "alice", two, group="").group == ""

    @pytest.mark.parametrize(
        ("scope", "scope_id", "field"),
        [
            ("global", "all", "scopeId"),
            ("host", "", "scopeId"),
            ("host", "a b", "scopeId"),
            ("client", "192.0.2.1/24", "scopeId"),
            ("user", "", "scopeId"),
            ("user", "a\0", "scopeId"),
            ("user", "\ud800", "scopeId"),
            ("filter", "~~", "scopeId"),
            ("provider", "openai", "scope"),
        ],
    )
    def test_scope_that_cannot_be_is_named(
        self, registry: Registry, scope: str, scope_id: str, field: str
    ) -> None:
        registry.elsewhere = PolicyFileNames(compile_filter=compile_word)
        dc = edits(registry).proxies.create(hop())
        with pytest.raises(InvalidEntry) as caught:
            edits(registry).assignments.put(scope, scope_id, dc.id)
        assert caught.value.field == field

    def test_the_more_specific_goes_before_the_less(self, registry: Registry) -> None:
        dc = edits(registry).proxies.create(hop())
        edits(registry).rules.create({"use": "refuse"})
        edits(registry).rules.create({"name": "named", "use": "refuse"})
        for scope, scope_id in (
            ("global", None),
            ("host", "*"),
            ("host", "*.org"),
            ("host", "*.example.org"),
            ("host", "www.example.org"),
            ("client", "192.0.2.0/24"),
            ("client", "192.0.2.1"),
            ("user", "alice"),
            ("filter", "yes"),
        ):
            edits(registry).assignments.put(scope, scope_id, dc.id)
        assert labels(registry.load()) == [
            "filter:yes",
            "user:alice",
            "client:192.0.2.1/32",
            "client:192.0.2.0/24",
            "host:www.example.org",
            "host:*.example.org",
            "host:*.org",
            "host:*",
            "#1",
            "named",
            "global:__global__",
        ]

    def test_settings_are_known_words_only(self, registry: Registry) -> None:
        assert registry.load().settings == {}
        assert policy_of(registry.load()).default is None
        assert edits(registry).settings.put({"default": "refuse"}) == {"default": "refuse"}
        assert policy_of(registry.load()).default == "refuse"
        for changes in ({"default": "Direct"}, {"default": "direct", "defualt": "direct"}):
            with pytest.raises(InvalidEntry):
                edits(registry).settings.put(changes)
        assert registry.load().settings == {"default": "refuse"}
        assert edits(registry).settings.put({"default": None}) == {}

    # -- changes as a whole

    def test_changes_are_made_together_or_not_at_all(self, registry: Registry) -> None:
        with registry.edit() as edit:
            edit.proxies.create(hop())
            with pytest.raises(InvalidEntry):
                edit.proxies.create(hop())
            rules = [edit.rules.create({"use": "dc"}) for _ in range(3)]
            edit.rules.delete(rules[0].id)
            rules.append(edit.rules.create({"use": "dc"}))
        assert registry.revision() == 1
        assert [rule.number for rule in rules] == [1, 2, 3, 3]
        assert [rule.id for rule in registry.load().rules] == [rule.id for rule in rules[1:]]
        before = registry.load()
        with pytest.raises(InvalidEntry), registry.edit() as edit:  # noqa: PT012
            edit.proxies.create(hop("new"))
            edit.proxies.create(hop("new"))
        with registry.edit(dry_run=True) as edit:
            edit.proxies.create(hop("new"))
        assert registry.load() == before

    def test_entry_can_be_made_under_an_id_it_had_before(self, registry: Registry) -> None:
        with registry.edit() as edit:
            assert edit.proxies.create(hop(), "old-id").id == "old-id"
            with pytest.raises(InvalidEntry) as caught:
                edit.proxies.create(hop("new"), "old-id")
        assert caught.value.field == "id"
        assert [proxy.id for proxy in registry.load().proxies] == ["old-id"]

    def test_every_change_counts_once_whoever_makes_it(
        self, registry: Registry, connect: Connect
    ) -> None:
        made = edits(registry).proxies.create(hop())
        nodes = [registry, connect()]

        def work(worker: int) -> int:
            conflicts = 0
            for turn in range(5):
                node = nodes[worker % 2]
                edits(node).proxies.create(hop(f"{worker}-{turn}"))
                seen = next(it for it in node.load().proxies if it.id == made.id)
                count = str(int(str(seen.raw["notes"]) or "0") + 1)
                try:
                    edits(node).proxies.update(made.id, {"notes": count}, if_match=seen.etag)
                except Conflict:
                    conflicts += 1
            return conflicts

        with ThreadPoolExecutor(4) as pool:
            conflicts = sum(pool.map(work, range(4)))
        state = registry.load()
        assert state == nodes[1].load()
        assert len(state.proxies) == 21
        [notes] = [it.raw["notes"] for it in state.proxies if it.id == made.id]
        assert int(str(notes)) == 20 - conflicts
        assert state.revision == 1 + 20 + 20 - conflicts

    def test_state_since_another_is_the_whole_state(
        self, registry: Registry, connect: Connect
    ) -> None:
        random, node, seen = Random(3), connect(), registry.load()
        for turn in range(50):
            now = registry.load()
            proxies, rules = list(now.proxies), list(now.rules)
            act = random.randrange(11)
            try:
                if act < 3 or not (proxies and rules):
                    edits(registry).proxies.create(hop(f"p{turn}"))
                    use: Any = random.choice([f"p{turn}", {"host": f"h{turn}"}])
                    edits(registry).rules.create({"use": use})
                elif act == 3:
                    edits(registry).proxies.update(random.choice(proxies).id, {"name": f"n{turn}"})
                elif act == 4:
                    edits(registry).proxies.delete(random.choice(proxies).id, force=True)
                elif act == 5:
                    edits(registry).rules.delete(random.choice(rules).id)
                elif act == 6:
                    edits(registry).rules.move(random.choice(rules).id, rules[0].id)
                elif act == 7:
                    edits(registry).assignments.put(
                        "host", f"h{turn % 3}", random.choice(proxies).id
                    )
                elif act == 8 or not now.pools:
                    edits(registry).pools.create({"name": f"o{turn}", "members": [proxies[0].name]})
                elif act == 9:
                    members = [proxy.name for proxy in proxies[-2:]]
                    edits(registry).pools.update(random.choice(now.pools).id, {"members": members})
                else:
                    edits(registry).pools.delete(random.choice(now.pools).id)
            except EgressError:
                pass
            if turn % 3 == 0:
                before, seen = seen, node.load(seen)
                assert seen == registry.load()
                kept = {(pool.id, pool.etag): pool for pool in before.pools}
                assert all(pool is kept.get((pool.id, pool.etag), pool) for pool in seen.pools)

    def test_a_change_ends_the_wait_of_another_node(
        self, registry: Registry, connect: Connect
    ) -> None:
        node, waiting = connect(), threading.Event()
        seen = node.revision()
        assert node.wait(seen, 0) == seen
        assert node.wait(seen - 1, 60) == seen

        def wait() -> int:
            waiting.set()
            return node.wait(seen, 60)

        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(wait)
            waiting.wait()
            edits(registry).proxies.create(hop())
            assert result.result(timeout=2) == seen + 1
            closed = pool.submit(node.wait, seen + 1, 60)
            node.close()
            assert closed.result(timeout=2) == seen + 1

    # -- secrets

    def test_no_secret_lies_in_the_database_or_shows(self, registry: Registry, place: str) -> None:
        made = edits(registry).proxies.create(hop(username="alice", password="s3cret"))
        rule = edits(registry).rules.create(
            {"use": {"host": "h", "username": "u", "password": "s3cret"}}
        )
        assert "s3cret" not in dump(place)
        assert "s3cret" not in f"{made} {rule} {registry.load()} {registry}"
        assert "v1:" not in f"{made} {rule} {registry.load()}"

    def test_wrong_key_is_told_and_changes_nothing(self, registry: Registry, place: str) -> None:
        edits(registry).proxies.create(hop(username="u", password="s3cret"))
        before = dump(place)
        with pytest.raises(WrongKey, match="made with another key, nothing was changed") as caught:
            Registry.open(place, OTHER_KEY)
        assert caught.value.status == 503
        assert dump(place) == before
        Registry.open(place, KEY).close()

    def test_password_put_into_another_row_is_a_problem(
        self, registry: Registry, place: str
    ) -> None:
        one = edits(registry).proxies.create(hop("one", username="u", password="s3cret"))
        edits(registry).proxies.create(hop("two", host="evil.example"))
        copy = f"SELECT password FROM proxy_registry WHERE id = '{one.id}'"
        tamper(place, f"UPDATE proxy_registry SET password = ({copy}) WHERE name = 'two'")
        two = registry.load().proxies[1]
        assert (two.proxy, "cannot be decrypted" in two.problem) == (None, True)
        with pytest.raises(InvalidEntry):
            edits(registry).proxies.update(two.id, {"region": "eu"})
        assert edits(registry).proxies.update(two.id, {"password": ""}).proxy

    def test_many_proxies_changed_alike_keep_what_is_their_own(self, registry: Registry) -> None:
        with registry.edit() as edit:
            proxies = edit.proxies
            made = [
                proxies.create(hop(f"p{n}", username="u", password=f"s{n}")) for n in range(1200)
            ]
            ids = [one.id for one in made]
            with edit.many_proxies() as many:
                failed = many.change_all([*ids, "gone"], {"family": "ipv6", "region": "eu"})
        assert [type(one) for one in failed.values()] == [NotFound]
        alike = {"family": "ipv6", "region": "eu"}
        wanted = [one.proxy.model_copy(update=alike) for one in made if one.proxy]
        found = {one.name: one.proxy for one in registry.load().proxies}
        assert [found[one.name] for one in made] == wanted
        with registry.edit() as edit, edit.many_proxies() as many:
            assert many.delete_all(ids) == {}
        assert registry.load().proxies == ()

    def test_changes_of_a_batch_see_those_before_them(self, registry: Registry) -> None:
        with registry.edit() as edit:
            a, b, c = (edit.proxies.create(hop(name, host=f"{name}.example")) for name in "abc")
            edit.pools.create({"name": "homes", "members": ["a", "b"]})
            edit.rules.create({"use": "c"})
            with edit.many_proxies() as many:
                assert a.proxy
                moved = a.proxy.model_copy(update={"family": "ipv4", "port": 9})
                many.update(a.id, {"family": "ipv4"})
                with pytest.raises(InvalidEntry, match="'a', pinned to ipv4"):
                    many.update(b.id, {"family": "ipv6"})
                assert many.update(a.id, {"port": 9}).proxy == moved
                for taken in ("a", "homes", "direct"):
                    with pytest.raises(InvalidEntry):
                        many.create(hop(taken))
                new = many.create(hop("new"), subscription="some")
                assert many.update(new.id, {"password": "s3cret"}).proxy
                with pytest.raises(InUse):
                    many.delete(c.id)
                many.update(c.id, {"password": "s3cret"})
                many.delete(c.id, force=True)
                many.delete(many.create(hop("passing"), "an-id").id)
                again = many.create(hop("c"), "an-id")
                for used in (again.id, b.id, c.id):
                    with pytest.raises(InvalidEntry, match="id"):
                        many.create(hop("other"), used)
                for gone in (c.id, "no id!"):
                    with pytest.raises(NotFound):
                        many.update(gone, {})
                assert [one.name for one in edit.load().proxies] == ["a", "b"]
        found = {one.name: one for one in registry.load().proxies}
        assert sorted(found) == ["a", "b", "c", "new"]
        assert found["a"].proxy == moved
        assert found["c"].id == "an-id"
        assert found["new"].subscription_id == "some"
        assert found["new"].proxy
        assert found["new"].proxy.password.get_secret_value() == "s3cret"
        assert registry.load().rules[0].rule.use == f"c (deleted {c.id[:8]})"

    def test_batch_that_raises_writes_nothing(self, registry: Registry) -> None:
        with registry.edit() as edit:

            def make_two() -> None:
                with edit.many_proxies() as many:
                    many.create(hop("one"))
                    many.create(hop("one"))

            with pytest.raises(InvalidEntry, match="used twice"):
                make_two()
            assert edit.load().proxies == ()

    # -- edits by hand

    @pytest.mark.parametrize(
        ("edit", "problem"),
        [
            ("host = '127.1'", "host"),
            ("host = '192.0.2.1', family = 'ipv6'", "contradicts"),
            ("type = 'relay'", "type"),
            ("port = 0", "port"),
            ("status = 'dead'", "status"),
            ("target_family = 'ipv5'", "target_family"),
            ("name = ' dc'", "not allowed"),
            ("name = 'direct'", "not allowed"),
            ("password = 'plain'", "decrypted"),
        ],
    )
    def test_proxy_that_is_not_valid_any_more_is_unusable_not_unpinned(
        self, registry: Registry, place: str, edit: str, problem: str
    ) -> None:
        dc = edits(registry).proxies.create(hop(family="ipv6"))
        edits(registry).rules.create({"use": "dc"})
        tamper(place, f"UPDATE proxy_registry SET {edit}")
        state = registry.load()
        [stored] = state.proxies
        assert stored.proxy is None
        assert problem in stored.problem
        assert isinstance(reason_for(state), Reason)
        mended = {"name": "dc", "host": "h", "type": "http", "port": 1, "status": "active"}
        mended |= {"target_family": None, "password": "", "family": "ipv6"}
        assert edits(registry).proxies.update(dc.id, mended).proxy
        assert reason_for(registry.load()) == "dc"

    @pytest.mark.parametrize(
        "edit",
        [
            "hosts = '[]'",
            "hosts = 'null'",
            "hosts = '{'",
            "hosts = '[\"a b\"]'",
            "clients = '5'",
            "ports = '[\"x\"]'",
            "family = 'ipv5'",
            "target_family = 'any'",
            "proxy_id = NULL",
            "proxy_id = NULL, \"use\" = 'gone'",
        ],
    )
    def test_rule_that_is_not_valid_any_more_refuses(
        self, registry: Registry, place: str, edit: str
    ) -> None:
        edits(registry).proxies.create(hop())
        rule = edits(registry).rules.create({"hosts": ["a.example"], "use": "dc"})
        edits(registry).rules.create({"hosts": ["b.example"], "use": "dc"})
        tamper(place, f"UPDATE rules SET {edit} WHERE id = '{rule.id}'")
        state = registry.load()
        assert bool(state.rules[0].problem) == ("gone" not in edit)
        assert isinstance(reason_for(state, "a.example"), Reason)
        unreadable = edit.startswith(("hosts", "clients", "ports"))
        assert isinstance(reason_for(state, "b.example"), Reason) == unreadable

    @pytest.mark.parametrize("name", ["", " ", "x" * 121])
    def test_rule_whose_name_is_none_is_called_by_its_number(
        self, registry: Registry, place: str, name: str
    ) -> None:
        edits(registry).rules.create({"use": "direct", "hosts": ["a.example"]})
        edits(registry).rules.create({"use": "direct", "name": "named"})
        tamper(place, f"UPDATE rules SET name = '{name}' WHERE name = 'named'")
        [first, second] = (state := registry.load()).rules
        assert labels(state) == [first.label, second.label] == ["#1", "#2"]
        assert (first.rule.name, second.rule.name) == ("", "")
        assert bool(second.problem) == (len(name) > 120)
        edits(registry).rules.delete(first.id)
        assert labels(registry.load(state)) == labels(registry.load()) == ["#1"]

    @pytest.mark.parametrize(
        "edit",
        ["assignments SET scope_id = 'a b'", "assignments SET scope_id = ''"],
    )
    def test_assignment_that_is_not_valid_any_more_refuses(
        self, registry: Registry, place: str, edit: str
    ) -> None:
        dc = edits(registry).proxies.create(hop())
        edits(registry).assignments.put("host", "a.example", dc.id)
        tamper(place, f"UPDATE {edit}")
        state = registry.load()
        assert state.assignments[0].problem
        assert reason_for(state) == Reason.RULE

    def test_pool_that_is_not_valid_any_more_refuses(self, registry: Registry, place: str) -> None:
        edits(registry).proxies.create(hop())
        edits(registry).pools.create({"name": "homes", "members": ["dc"]})
        edits(registry).rules.create({"use": "homes"})
        for edit in ("strategy = 'fastest'", "strategy = 'first', name = 'dc'"):
            tamper(place, f"UPDATE pools SET {edit}")
            state = registry.load()
            assert state.pools[0].pool is None
            assert state.pools[0].problem
        tamper(place, "UPDATE pools SET name = 'homes', strategy = 'fastest'")
        assert reason_for(registry.load()) == Reason.DELETED

    def test_default_that_is_no_word_refuses(self, registry: Registry, place: str) -> None:
        edits(registry).settings.put({"default": "direct"})
        tamper(place, "UPDATE settings SET value = 'Direct'")
        assert reason_for(registry.load()) == Reason.DEFAULT
