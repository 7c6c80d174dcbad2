"""The judge of the lab reports each packet, question or outcome that is not allowed."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from tests.lab.counters import Packets, Place
from tests.lab.hosts import NAMES_V4, ORIGIN
from tests.lab.peers import ORIGIN_NAME, Question
from tests.lab.run import Result, judge
from tests.lab.scenarios import SITUATIONS, Scenario, Slot

SLOT = Slot("socks5", "ipv6", 7, {"http": 1080, "https": 1080})
NAMESERVER = (NAMES_V4, 5353)
ASKED = Counter({(SLOT.name, "AAAA"): 2})


def scenario(title: str = "dual-stack name") -> Scenario:
    case = SITUATIONS[title](SLOT)
    assert case
    return Scenario(title, SLOT, case)


def judged(
    syn: dict[Place, int],
    asked: Counter[Question] = ASKED,
    outcome: str = "ok",
    title: str = "dual-stack name",
    udp: Mapping[Place, int] | None = None,
    of_system: Sequence[Question] = (),
) -> list[Result]:
    seen = Packets(Counter(syn), Counter(udp))
    chosen = [scenario(title)]
    return judge(chosen, [outcome], seen, asked, NAMESERVER, Counter(of_system))


def test_allowed_packets_and_questions_pass() -> None:
    results = judged({(SLOT.own, 1080): 2, NAMESERVER: 9}, udp={NAMESERVER: 9})
    assert all(result.is_good for result in results)


@pytest.mark.parametrize(
    ("place", "count"),
    [
        ((SLOT.own, 1080), 3),
        ((SLOT.other, 1080), 1),
        ((SLOT.dead, 1080), 1),
        ((SLOT.own, 1081), 1),
        ((ORIGIN.at(2, "ipv4"), 443), 1),
        ((NAMES_V4, 53), 1),
    ],
)
def test_one_packet_more_is_a_leak(place: Place, count: int) -> None:
    results = judged({(SLOT.own, 1080): 2, place: count})
    assert sum(result.leaked.total() for result in results) == 1
    assert not all(result.is_good for result in results)


@pytest.mark.parametrize("place", [(SLOT.own, 1080), (ORIGIN.at(2, "ipv6"), 443), (NAMES_V4, 53)])
def test_udp_to_any_place_but_the_nameserver_is_a_leak(place: Place) -> None:
    results = judged({(SLOT.own, 1080): 2}, udp={NAMESERVER: 2, place: 1})
    assert [dict(result.leaked) for result in results if not result.is_good] == [{place: 1}]


@pytest.mark.parametrize("question", [(SLOT.name, "A"), (ORIGIN_NAME, "AAAA")])
def test_one_question_too_many_is_reported(question: Question) -> None:
    results = judged({(SLOT.own, 1080): 2}, ASKED + Counter([question]))
    assert [result.asked for result in results if result.asked] == [frozenset([question])]


@pytest.mark.parametrize("question", [(SLOT.name, "AAAA"), (ORIGIN_NAME, "A")])
def test_every_question_to_the_system_is_reported(question: Question) -> None:
    results = judged({(SLOT.own, 1080): 2}, of_system=[question])
    assert [result.asked for result in results if result.asked] == [frozenset([question])]


def test_wrong_outcome_and_missing_dial_or_question_are_reported() -> None:
    (result, _) = judged({}, Counter(), "no_record")
    assert "ended in 'no_record'" in result.wrong
    assert "never dialled" in result.wrong
    assert "never asked" in result.wrong
    (result, _) = judged({}, outcome="ok", title="only the other family")
    assert "ended in 'ok'" in result.wrong
