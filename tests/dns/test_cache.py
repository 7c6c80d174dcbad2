from egress_policy.dns.cache import AnswerCache
from egress_policy.policy.preflight import DnsAnswer
from tests.helpers.clock import Clock

ANSWER = DnsAnswer(("2001:db8::1",), 10, "records")


def test_an_answer_comes_back_with_its_remaining_ttl() -> None:
    clock = Clock()
    cache = AnswerCache(clock)
    cache.put(("a.example", 6), ANSWER)
    clock.now += 4
    assert cache.get(("a.example", 6)) == DnsAnswer(("2001:db8::1",), 6, "records", from_cache=True)
    assert cache.get(("a.example", 4)) is None
    clock.now += 6
    assert cache.get(("a.example", 6)) is None


def test_the_least_recently_used_answer_goes_first() -> None:
    cache = AnswerCache(Clock(), limit=2)
    cache.put(("a.example", 6), ANSWER)
    cache.put(("b.example", 6), ANSWER)
    assert cache.get(("a.example", 6))
    cache.put(("c.example", 6), ANSWER)
    assert cache.get(("a.example", 6))
    assert cache.get(("b.example", 6)) is None
    assert cache.get(("c.example", 6))


def test_the_same_question_takes_one_place() -> None:
    cache = AnswerCache(Clock(), limit=2)
    for _ in range(3):
        cache.put(("a.example", 6), ANSWER)
    cache.put(("b.example", 6), ANSWER)
    assert cache.get(("a.example", 6))


def test_clear_forgets() -> None:
    cache = AnswerCache(Clock())
    cache.put(("a.example", 6), ANSWER)
    cache.clear()
    assert cache.get(("a.example", 6)) is None
