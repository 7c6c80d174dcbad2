"""Hits of rules: for which rule a flow counts, and what survives which edit."""

from typing import Any

import pytest

from egress_policy.management import hits as module
from egress_policy.management.hits import Hits
from egress_policy.model.rule import Policy, Rule
from egress_policy.policy.snapshot import Snapshot, build_snapshot
from tests.helpers.filters import compile_word
from tests.management.test_history import event

A: dict[str, Any] = {"hosts": ["a.test"], "use": "direct"}
B: dict[str, Any] = {"hosts": ["b.test"], "use": "refuse"}
C: dict[str, Any] = {"hosts": ["c.test"], "use": {"host": "192.0.2.1", "password": "s3cret"}}


class Scene:
    """Rules in force, and their hits."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        self.put(*rules)
        self.hits = Hits(lambda: self.snapshot)

    def put(self, *rules: dict[str, Any]) -> None:
        made = tuple(map(Rule.model_validate, rules))
        self.snapshot: Snapshot = build_snapshot(Policy(rules=made), compile_word)

    def flow(self, *labels: str, at: float = 1.5) -> None:
        for label in labels:
            self.hits.ended(event(rule=label, at=at))

    def counts(self) -> list[int]:
        return [self.hits.of(one.label).count for one in self.snapshot.rules]


def test_flows_count_for_their_rule_and_for_the_default() -> None:
    scene = Scene(A, B)
    scene.flow("#1", "default", "#2", "#1", "gone", at=2.5)
    assert scene.counts() == [2, 1]
    assert scene.hits.of("default").count == 1
    assert scene.hits.of("#1").last_hit == "1970-01-01T00:00:02.500Z"
    assert (scene.hits.of("gone").count, scene.hits.of("gone").last_hit) == (0, None)


@pytest.mark.parametrize(
    ("rules", "counts"),
    [
        ((A, B, C), [1, 2, 3]),
        ((C, B, A), [3, 2, 1]),
        (({"use": "direct", "ports": [1]}, A, B, C), [0, 1, 2, 3]),
        ((A, C), [1, 3]),
        (({**A, "name": "mine"}, B, C), [1, 2, 3]),
        (({**A, "ports": [80]}, B, {**C, "use": "direct"}), [0, 2, 0]),
        (({**A, "family": "ipv6"}, {**B, "hosts": ["b.test", "x.test"]}, C), [0, 0, 3]),
        ((A, B, {**C, "use": {"host": "192.0.2.1", "password": "other"}}), [1, 2, 3]),
    ],
)
def test_a_count_survives_what_leaves_the_rule_as_it_is(
    rules: tuple[dict[str, Any], ...], counts: list[int]
) -> None:
    scene = Scene(A, B, C)
    scene.flow("#1", "#2", "#2", "#3", "#3", "#3", "default")
    scene.put(*rules)
    assert scene.counts() == counts
    assert scene.hits.of("default").count == 1


def test_a_rule_that_comes_back_has_its_count() -> None:
    scene = Scene(A, B)
    scene.flow("#2")
    scene.put(A)
    scene.put(B)
    scene.flow("#1")
    assert scene.counts() == [2]


def test_rules_with_one_label_share_a_count() -> None:
    scene = Scene({**A, "name": "x"}, {**B, "name": "x"}, C)
    scene.flow("x", "x", "#3")
    assert scene.counts() == [2, 2, 1]


def test_no_password_is_kept() -> None:
    scene = Scene(C)
    scene.flow("#1")
    assert "s3cret" not in str(scene.hits._kept)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    scene = Scene()
    for number in range(5):
        scene.put({"hosts": [f"h{number}.test"], "use": "direct"})
        scene.flow("#1", "default")
    assert len(scene.hits._kept) <= 3
    assert scene.counts() == [1]
    assert len(scene.hits._by_label) == 2
