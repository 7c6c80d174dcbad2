"""A proxy is blamed for what may be the target's fault only where the target works elsewhere."""

from egress_policy.policy.fault import Cause
from egress_policy.policy.health.circuit import Strike
from egress_policy.policy.health.evidence import TARGETS, TargetEvidence
from egress_policy.policy.hop import broken

TARGET = ("origin.test", 443)
BAD_GATEWAY = broken("502", Cause.UNDECIDED)


def at(began: float, seconds: float = 0.1) -> Strike:
    return Strike(began, began + seconds, BAD_GATEWAY, 0.05)


def keys(proven: list[tuple[str, Strike]]) -> list[str]:
    return [key for key, _ in proven]


def test_a_target_that_works_through_another_member_proves_it() -> None:
    evidence = TargetEvidence()
    assert not evidence.convicts(TARGET, "a", at(0))
    assert keys(evidence.worked(TARGET, "b", 0.3)) == ["a"]
    assert evidence.worked(TARGET, "b", 0.4) == []


def test_a_target_that_worked_before_may_have_died() -> None:
    evidence = TargetEvidence()
    evidence.worked(TARGET, "b", 0.0)
    assert not evidence.convicts(TARGET, "a", at(0.1))


def test_a_target_that_worked_while_the_proxy_was_silent_proves_it_at_once() -> None:
    evidence = TargetEvidence()
    evidence.worked(TARGET, "b", 2.0)
    assert evidence.convicts(TARGET, "a", at(0, 10.0))


def test_a_target_that_fails_elsewhere_too_clears_both() -> None:
    evidence = TargetEvidence()
    assert not evidence.convicts(TARGET, "a", at(0))
    assert not evidence.convicts(TARGET, "b", at(0.2))
    assert evidence.worked(TARGET, "c", 1.0) == []


def test_the_targets_own_word_clears_the_others() -> None:
    evidence = TargetEvidence()
    evidence.excuse(TARGET, "b")
    assert not evidence.convicts(TARGET, "a", at(0))
    evidence.excuse(TARGET, "b")
    assert evidence.worked(TARGET, "c", 1.0) == []


def test_neither_the_member_itself_nor_another_target_proves_anything() -> None:
    evidence = TargetEvidence()
    assert not evidence.convicts(TARGET, "a", at(0))
    assert evidence.worked(("other.test", 443), "b", 1.0) == []
    assert evidence.worked(("origin.test", 80), "b", 1.0) == []
    assert evidence.worked(TARGET, "a", 1.0) == []
    assert evidence.worked(TARGET, "b", 2.0) == []  # it had recovered by then


def test_a_minute_later_nothing_is_proven() -> None:
    evidence = TargetEvidence()
    assert not evidence.convicts(TARGET, "a", at(0))
    assert evidence.worked(TARGET, "b", 61.0) == []


def test_what_is_remembered_is_bounded() -> None:
    evidence = TargetEvidence()
    for number in range(TARGETS + 10):
        evidence.convicts((f"h{number}.test", 443), "a", at(0))
    assert len(evidence._targets) == TARGETS
    assert evidence.worked(("h0.test", 443), "b", 1.0) == []
    for number in range(200):
        evidence.worked(TARGET, f"m{number}", number * 1.0)
    assert len(evidence._targets[TARGET]._worked) <= 80
