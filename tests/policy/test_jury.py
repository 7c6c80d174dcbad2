"""Which failures count: at once, once something else proves them, or never."""

import pytest

from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import JUDGEMENTS, Cause
from egress_policy.policy.health.circuit import Strike
from egress_policy.policy.health.jury import Jury
from egress_policy.policy.hop import Outcome, broken

TARGET = ("origin.test", 443)
DEAD, ALIVE = "192.0.2.1", "198.51.100.1"
IN_DOUBT = {Cause.NO_ANSWER, Cause.SILENT, Cause.UNDECIDED}
PROXY = Egress(Proxy(name="dead", host=DEAD))


def strike(cause: Cause, began: float = 0.0, ended: float = 10.0) -> Strike:
    return Strike(began, ended, broken(cause.name, cause))


def counts(jury: Jury, one: Strike, *, pool: str = "homes", on_trial: bool = False) -> bool:
    return jury.convicts("dead", TARGET, pool, DEAD, one, on_trial=on_trial)


@pytest.mark.parametrize("pool", ["homes", ""])
@pytest.mark.parametrize("cause", [one for one in Cause if one not in IN_DOUBT])
def test_what_is_in_no_doubt_counts_as_the_table_says(cause: Cause, pool: str) -> None:
    assert counts(Jury(), strike(cause), pool=pool) is JUDGEMENTS[cause].counts


@pytest.mark.parametrize("cause", [Cause.NO_ANSWER, Cause.SILENT])
def test_a_doubt_about_our_network_counts_only_on_trial(cause: Cause) -> None:
    assert not counts(Jury(), strike(cause))
    assert counts(Jury(), strike(cause), on_trial=True)


def test_a_doubt_about_the_target_is_none_about_a_trial() -> None:
    assert not counts(Jury(), strike(Cause.UNDECIDED), on_trial=True)


@pytest.mark.parametrize("cause", [Cause.NO_ANSWER, Cause.SILENT])
@pytest.mark.parametrize("answer", [None, Cause.REFUSED])
def test_our_network_that_answered_meanwhile_is_cleared(cause: Cause, answer: Cause | None) -> None:
    jury, other = Jury(), Egress(Proxy(name="alive", host=ALIVE))
    why = broken("refused", answer) if answer else None
    jury.heard(other, Outcome("dial", ALIVE, why, 4.9, 5.0))
    assert counts(jury, strike(cause))


def test_an_answer_after_the_failure_proves_it() -> None:
    jury, other = Jury(), Egress(Proxy(name="alive", host=ALIVE))
    jury.heard(PROXY, Outcome("dial", DEAD, broken("silence", Cause.NO_ANSWER), 0.0, 10.0))
    one = strike(Cause.NO_ANSWER)
    assert not counts(jury, one)
    assert jury.heard(other, Outcome("dial", ALIVE, None, 10.6, 10.7)) == [("dead", one)]


@pytest.mark.parametrize(("pool", "proven"), [("homes", ["dead"]), ("", [])])
def test_a_target_that_works_through_another_member_proves_it(pool: str, proven: list[str]) -> None:
    jury = Jury()
    assert not counts(jury, strike(Cause.UNDECIDED, 0.0, 0.1), pool=pool)
    assert [key for key, _ in jury.worked(TARGET, "alive", 0.3)] == proven


def test_the_targets_own_word_clears_the_others() -> None:
    jury = Jury()
    counts(jury, strike(Cause.UNDECIDED, 0.0, 0.1))
    assert not jury.convicts("b", TARGET, "homes", ALIVE, strike(Cause.TARGET), on_trial=False)
    assert jury.worked(TARGET, "c", 0.3) == []


def test_a_network_that_answers_nobody_is_suspected() -> None:
    jury = Jury()
    assert jury.suspicion(0.0) == ""
    for number in range(1, 5):
        address = f"192.0.2.{number}"
        egress = Egress(Proxy(name=f"home-{number}", host=address))
        failure = broken("silence", Cause.NO_ANSWER)
        jury.heard(egress, Outcome("dial", address, failure, 0.0, 10.0))
    assert "IPv4" in jury.suspicion(10.0)
    jury.heard(PROXY, Outcome("dial", ALIVE, None, 10.0, 10.1))
    assert jury.suspicion(10.2) == ""
