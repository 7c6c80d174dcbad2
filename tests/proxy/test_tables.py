"""Tables of the prompt: three columns, which 80 characters have room for, and all that matters."""

from typing import Any

from egress_policy.management.explain import EgressView, Explanation, RuleTrace
from egress_policy.management.rules import RuleView
from egress_policy.proxy import tables


def row(found: Any) -> list[Any]:
    """The only row of a table."""
    head, only = found
    assert len(head) == len(only) == 3
    return list(only)


def rule(**fields: Any) -> RuleView:
    return RuleView(id="1", source="registry", number=1, label="r", **fields)


def test_rule_shows_what_it_matches() -> None:
    hosts = tuple(f"h{number}.test" for number in range(7))
    some = rule(hosts=hosts, clients=("192.0.2.0/24",), ports=(443, 8443), filter="~m GET", use="x")
    assert row(tables.rules([some])) == [
        "r",
        "h0.test h1.test h2.test h3.test h4.test and 2 more; from 192.0.2.0/24; port 443 8443; "
        "~m GET",
        "x",
    ]
    assert row(tables.rules([rule(use="direct")])) == ["r", "everything", "direct"]
    assert row(tables.rules([rule(use="x", refuses="x is inactive")]))[2] == (
        "x; refuses: x is inactive"
    )


def test_explanation_says_how_many_rules_it_leaves_out() -> None:
    found = Explanation(
        outcome="egress",
        rule="r",
        why="r matches",
        egresses=(
            EgressView(
                name="one", type="http", host="h.test", port=1, family="ipv6", target_family="ipv4"
            ),
        ),
        rules=(RuleTrace(rule="r", verdict="matched", why="r matches"),),
        rules_before=3,
        rules_after=4,
        note="a note",
    )
    assert list(tables.explanation(found, [("this flow", "direct", "")])) == [
        ["rule", "verdict", "why"],
        ["this flow", "direct", ""],
        ["...", "not matched", "3 rules before these"],
        ["r", "matched", "r matches"],
        ["...", "not reached", "4 rules more"],
        ["=>", "egress", "r matches"],
        ["one", "http", "h.test port 1, ipv6, target over ipv4"],
        ["=>", "", "a note"],
    ]


def test_cells_control_no_terminal() -> None:
    assert row(tables.table("abc", [("\x1b[1m", None, "\u202e")])) == ["\\x1b[1m", "", "\\u202e"]
