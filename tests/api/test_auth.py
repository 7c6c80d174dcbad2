import pytest

from egress_policy.api.auth import COOKIE, LINK_LIFE, SESSION_IDLE, SESSION_LIFE, Gate
from egress_policy.api.problems import Problem
from tests.helpers.clock import Clock


def gate(clock: Clock) -> Gate:
    return Gate("the right token", {"127.0.0.1:1"}, clock)


def is_open(door: Gate, session: str) -> bool:
    try:
        door.require_access({"Cookie": f"a=b; {COOKIE}={session}"}, "peer")
    except Problem:
        return False
    return True


def test_session_ends_when_it_is_idle() -> None:
    clock = Clock()
    door = gate(clock)
    session = door.open_session()
    clock.now += SESSION_IDLE - 1
    assert is_open(door, session)
    clock.now += SESSION_IDLE - 1
    assert is_open(door, session)
    clock.now += SESSION_IDLE + 1
    assert not is_open(door, session)


def test_session_ends_though_it_is_used() -> None:
    clock = Clock()
    door = gate(clock)
    session = door.open_session()
    for _ in range(int(SESSION_LIFE // 3600)):
        assert is_open(door, session)
        clock.now += 3600
    clock.now += 1
    assert not is_open(door, session)


def test_sessions_are_bounded() -> None:
    door = gate(Clock())
    sessions = [door.open_session() for _ in range(65)]
    assert not is_open(door, sessions[0])
    assert all(is_open(door, one) for one in sessions[1:])


def test_link_is_for_once_and_soon() -> None:
    clock = Clock()
    door = gate(clock)
    word = door.make_link()
    door.redeem_link(word, "peer")
    with pytest.raises(Problem):
        door.redeem_link(word, "peer")
    late = door.make_link()
    clock.now += LINK_LIFE + 1
    with pytest.raises(Problem):
        door.redeem_link(late, "peer")


def test_wait_doubles_and_is_bounded_and_one_address_does_not_hurt_another() -> None:
    clock = Clock()
    door = gate(clock)

    def attempt(peer: str) -> Problem:
        with pytest.raises(Problem) as caught:
            door.require_token("wrong", peer)
        return caught.value

    assert [attempt("a").status for _ in range(6)] == [401] * 6
    assert attempt("a").status == 429
    assert attempt("b").status == 401
    door.require_token("the right token", "a")
    assert attempt("a").status == 401
    for _ in range(50):
        last = attempt("a")
    assert int(last.headers["Retry-After"]) <= 60
    clock.now += 61
    assert attempt("a").status == 401


@pytest.mark.parametrize("cookies", ["", "x", f"{COOKIE}=", f"{COOKIE}=wrong", '"\\', "a=b;;;="])
def test_cookies_of_any_kind_do_not_open(cookies: str) -> None:
    with pytest.raises(Problem):
        gate(Clock()).require_access({"Cookie": cookies}, "peer")
