import pytest

from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Rule
from egress_policy.policy.consistency import find_contradictions
from tests.helpers.filters import compile_word

V4 = Proxy(name="v4", host="h.example", family="ipv4")
V6 = Proxy(name="v6", host="h.example", family="ipv6")
AUTO = Proxy(name="auto", host="h.example")


def find(
    *entries: Proxy | Pool | Rule, broken: tuple[str, ...] = ()
) -> list[tuple[tuple[str | int, ...], str]]:
    proxies = dict(enumerate(entry for entry in entries if isinstance(entry, Proxy)))
    pools = dict(enumerate(entry for entry in entries if isinstance(entry, Pool)))
    rules = dict(enumerate(entry for entry in entries if isinstance(entry, Rule)))
    return list(find_contradictions(proxies, pools, rules, compile_word, broken))


def test_policy_that_fits_together_has_no_findings() -> None:
    pool = Pool(name="pool", members=("v4", "auto"))
    uses = ("v4", "v6", "pool", "direct", "refuse")
    rules = [Rule(use=use) for use in uses] + [Rule(use=V6.model_copy(update={"name": "x"}))]
    assert not find(V4, V6, AUTO, pool, *rules, Rule(use="v4", filter="later", name="a"))


@pytest.mark.parametrize("use", ["nothing", "upstream", "Direct", "v4 v6"])
def test_use_that_names_nothing_is_found(use: str) -> None:
    assert find(V4, Rule(use="v4"), Rule(use=use)) == [
        (("rules", 1, "use"), f"{use!r} names no proxy or pool")
    ]


@pytest.mark.parametrize("use", ["http://u:hunter2@h.example:1", "u:hunter2@h", "hunter2!"])
def test_what_may_be_a_password_where_a_name_belongs_is_not_quoted(use: str) -> None:
    [(_, message)] = find(Rule(use=use))
    assert "hunter2" not in message
    assert ("url" in message) == ("://" in use)


def test_what_names_a_broken_entry_is_not_an_error_of_its_own() -> None:
    assert not find(Pool(name="pool", members=("bad",)), Rule(use="bad"), broken=("bad",))


def test_unknown_member_is_found() -> None:
    pools = Pool(name="a", members=("v4", "gone")), Pool(name="b", members=("a", "direct"))
    assert [location for location, _ in find(V4, *pools)] == [
        ("pools", 0, "members", 1),
        ("pools", 1, "members", 0),
        ("pools", 1, "members", 1),
    ]


def test_members_of_both_families_contradict_each_other() -> None:
    pool = Pool(name="pool", members=("v4", "auto", "v6"))
    [(location, message)] = find(V4, V6, AUTO, pool)
    assert location == ("pools", 0, "members")
    assert "ipv4 and to ipv6" in message


def test_proxies_and_pools_share_one_name_space() -> None:
    assert find(V4, V6, Pool(name="v6", members=())) == [
        (("pools", 0, "name"), "'v6' is used twice")
    ]
    assert find(AUTO.model_copy(update={"name": "Direct"})) == [
        (("proxies", 0, "name"), "'Direct' is a reserved name")
    ]


def test_rule_names_are_unique_but_optional() -> None:
    rules = [Rule(use="direct"), Rule(use="direct")]
    assert not find(*rules)
    named = [Rule(use="direct", name=name) for name in ("a", "a", "default")]
    assert find(*named) == [
        (("rules", 1, "name"), "'a' is used twice"),
        (("rules", 2, "name"), "'default' is a reserved name"),
    ]


def test_inline_proxy_cannot_take_the_name_of_a_declared_one() -> None:
    assert find(V4, Rule(use=V4)) == [(("rules", 0, "use", "name"), "'v4' is taken or reserved")]


def test_bad_filter_is_found_with_the_message_of_the_compiler() -> None:
    assert find(Rule(use="direct", filter="yes"), Rule(use="direct", filter="~~")) == [
        (("rules", 1, "filter"), "not a filter expression: no such word: ~~")
    ]
