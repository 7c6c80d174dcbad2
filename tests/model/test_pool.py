from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from egress_policy.errors import InvalidEntry
from egress_policy.model.pool import STRATEGIES, Checks, Member, Pool, parse_span


def pool(**fields: object) -> Pool:
    return Pool.model_validate({"name": "p", "members": [], **fields})


def complaints(**fields: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        pool(**fields)
    return [
        (".".join(map(str, one["loc"])), one["msg"])
        for one in caught.value.errors(include_input=False)
    ]


def test_pool_has_the_defaults_of_a_rotation() -> None:
    made = Pool(name=" homes ", members=())
    assert (made.name, made.strategy) == ("homes", "round-robin")
    assert (made.sticky_by, made.sticky_minutes) == ("client", 30)
    assert (made.failover, made.seed, made.checks) == (1, None, None)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_taken(strategy: str) -> None:
    assert pool(strategy=strategy).strategy == strategy


@pytest.mark.parametrize("strategy", ["fastest", "Sticky", "", 1, None, [], {}])
def test_unknown_strategy_is_answered_with_those_there_are(strategy: object) -> None:
    [(where, message)] = complaints(strategy=strategy)
    assert where == "strategy"
    assert all(known in message for known in STRATEGIES)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a\0"},
        {"name": "x" * 121},
        {"members": "ab"},
        {"members": ["a", "a"]},
        {"members": ["a", " a"]},
        {"members": ["a", {"name": "a", "weight": 2}]},
        {"sticky_minutes": 0},
        {"sticky_minutes": 1441},
        {"sticky_minutes": "5"},
        {"failover": -1},
        {"failover": 6},
        {"failover": True},
        {"seed": -1},
        {"seed": 1 << 53},
        {"seed": "7"},
        {"weight": 1},
    ],
    ids=str,
)
def test_pool_rejects(fields: dict[str, Any]) -> None:
    assert len(complaints(**fields)) == 1


@pytest.mark.parametrize(
    ("stated", "kept"),
    [("client", "client"), ("user", "user"), ("account", "user"), ("host", "host"),
     ("header:X-Account", "header:x-account")],
)  # fmt: skip
def test_key_of_a_sticky_pool(stated: str, kept: str) -> None:
    assert pool(sticky_by=stated).sticky_by == kept


@pytest.mark.parametrize("stated", ["port", "header:", "header:a b", "header:é", "Client", None, 1])
def test_key_that_no_request_has_is_rejected(stated: object) -> None:
    [(where, message)] = complaints(sticky_by=stated)
    assert where == "sticky_by"
    assert "client, user, host or header:NAME" in message


def test_pool_names_the_member_that_is_listed_twice() -> None:
    with pytest.raises(ValidationError, match="'a' is listed twice"):
        pool(members=["b", "a", "a"])


def test_thousands_of_members_are_checked_fast() -> None:
    compared = 0

    class Counting(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    members = tuple(
        Member.model_construct(name=Counting(f"member-{number}")) for number in range(1000)
    )
    made: Any = Pool.model_construct(name="p", members=members)
    made._members_differ()
    assert compared < len(members)


# -- members


def test_member_is_a_name_where_it_weighs_one() -> None:
    made = pool(
        members=["a", {"name": "b", "weight": 3}, {"name": "c"}, {"name": "d=7", "weight": 1}]
    )
    assert made.names == ("a", "b", "c", "d=7")
    assert [member.weight for member in made.members] == [1, 3, 1, 1]
    dumped = made.model_dump(mode="json")["members"]
    assert dumped == ["a", {"name": "b", "weight": 3}, "c", "d=7"]
    assert [str(member) for member in made.members] == ["a", "b=3", "c", "d=7=1"]


@given(
    st.lists(
        st.tuples(st.text("abcd-=", min_size=1), st.integers(1, 1000)), unique_by=lambda m: m[0]
    )
)
def test_members_are_read_back_as_they_are_written(members: list[tuple[str, int]]) -> None:
    made = pool(members=[{"name": name, "weight": weight} for name, weight in members])
    assert Pool.model_validate(made.model_dump()) == made
    assert Pool.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("member", "where"),
    [
        ("", "members.0.name"),
        (7, "members.0"),
        (None, "members.0"),
        (["a"], "members.0"),
        ({}, "members.0.name"),
        ({"name": "a", "weight": 0}, "members.0.weight"),
        ({"name": "a", "weight": 1001}, "members.0.weight"),
        ({"name": "a", "weight": "3"}, "members.0.weight"),
        ({"name": "a", "weigth": 3}, "members.0.weigth"),
    ],
    ids=str,
)
def test_wrong_member_is_named_by_its_place(member: object, where: str) -> None:
    assert [place for place, _ in complaints(members=[member])] == [where]


def test_schema_knows_both_forms_of_a_member() -> None:
    forms = Member.model_json_schema()["anyOf"]
    assert [form["type"] for form in forms] == ["string", "object"]
    assert forms[1]["required"] == ["name"]


# -- checks


def test_checks_have_defaults() -> None:
    assert Checks() == Checks(every=60, url=None, expect="200-399", members="down")


@pytest.mark.parametrize(
    ("span", "seconds"),
    [(90, 90), ("90s", 90), ("5m", 300), (" 1h ", 3600), ("24h", 86400), (1, 1)],
)
def test_time_between_checks_is_in_seconds(span: object, seconds: int) -> None:
    assert parse_span(span) == seconds


@pytest.mark.parametrize("span", [0, -1, "0s", "25h", 86401, 1.5, True, "1 d", "5", "m", "", None])
def test_time_that_is_none_is_rejected(span: object) -> None:
    with pytest.raises(InvalidEntry, match="such as 60s, 5m or 1h"):
        parse_span(span)


@pytest.mark.parametrize(
    ("expect", "status", "fits"),
    [("200-399", 200, True), ("200-399", 399, True), ("200-399", 400, False), ("204", 204, True),
     (204, 204, True), (204, 200, False)],
)  # fmt: skip
def test_expected_status(expect: object, status: int, fits: bool) -> None:
    checks = Checks.model_validate({"expect": expect})
    assert checks.accepts(status) is fits


@pytest.mark.parametrize(
    ("checks", "where"),
    [
        ({"every": "soon"}, "checks.every"),
        ({"expect": "399-200"}, "checks.expect"),
        ({"expect": "2xx"}, "checks.expect"),
        ({"expect": "600"}, "checks.expect"),
        ({"members": "some"}, "checks.members"),
        ({"url": "https://a.example/"}, "checks.url"),
        ({"url": {}}, "checks.url"),
        ({"url": {"ipv4": "ftp://a.example/"}}, "checks.url.ipv4"),
        ({"url": {"ipv5": "http://a.example/"}}, "checks.url.ipv5"),
        ({"evry": 60}, "checks.evry"),
        ([], "checks"),
    ],
    ids=str,
)
def test_wrong_check_is_named_by_its_place(checks: object, where: str) -> None:
    assert [place for place, _ in complaints(checks=checks)] == [where]


@pytest.mark.parametrize("value", [pool(), Member(name="a"), Checks()])
def test_values_are_frozen(value: BaseModel) -> None:
    for field in type(value).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, field, None)
