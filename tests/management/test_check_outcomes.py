"""What came of a check is counted by whose fault it is, and reported whatever happens."""

import logging

import pytest

from egress_policy.management.check_outcomes import CheckOutcomes, hop_of, unended
from egress_policy.model.decision import Egress, Place
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import JUDGEMENTS, Cause
from egress_policy.policy.hop import Outcome, broken

EGRESS = Egress(Proxy(name="home-1", host="192.0.2.1", port=81))
WORDS = {"proxy": "failed", "undecided": "undecided", "target": "undecided"}


def attempt(cause: Cause) -> Outcome:
    return Outcome("attempt", "192.0.2.1", broken("why", cause))


@pytest.mark.parametrize("cause", Cause)
def test_an_attempt_counts_by_whose_fault_it_is(cause: Cause) -> None:
    outcomes = CheckOutcomes(lambda *_: None)
    outcomes.tell(EGRESS, hop_of(EGRESS), "homes", attempt(cause))
    assert outcomes.counts == {WORDS.get(JUDGEMENTS[cause].fault, "untried"): 1}


def test_all_is_reported_and_attempts_are_counted() -> None:
    reported: list[tuple[Egress, Place, str, Outcome]] = []
    outcomes = CheckOutcomes(lambda *told: reported.append(told))
    for outcome in (Outcome("dial", "192.0.2.1"), Outcome("attempt", "192.0.2.1")):
        outcomes.tell(EGRESS, hop_of(EGRESS), "homes", outcome)
        assert reported[-1] == (EGRESS, ("192.0.2.1", 81), "homes", outcome)
    assert outcomes.counts == {"ok": 1}


def test_what_was_ended_is_nobodys_fault() -> None:
    outcomes = CheckOutcomes(lambda *_: None)
    outcomes.tell(EGRESS, hop_of(EGRESS), "", unended(5.0))
    assert outcomes.counts == {"untried": 1}
    assert (unended(5.0).began, unended(5.0).ended) == (5.0, 5.0)


def test_a_report_that_goes_wrong_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def report(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    outcomes = CheckOutcomes(report)
    with caplog.at_level(logging.ERROR):
        outcomes.tell(EGRESS, hop_of(EGRESS), "", attempt(Cause.REFUSED))
    assert "the check of proxy home-1" in caplog.text
    assert outcomes.counts == {"failed": 1}
