"""The end of a refusal's sentence."""

from egress_policy.policy.fail_closed import fail_closed, reason_in, text_of
from egress_policy.sentence import Sentence

WHY = Sentence("inactive", "inactive")


def test_refusal_says_why_and_that_nothing_leaves() -> None:
    assert fail_closed(WHY) == "inactive; refusing to egress (fail-closed)"


def test_reason_is_taken_out_again() -> None:
    assert reason_in(fail_closed(WHY)) is WHY
    assert reason_in("another text") == "another text"


def test_parameter_is_a_text() -> None:
    assert text_of(Sentence("full", "{count} of them", count=3), "count") == "3"
