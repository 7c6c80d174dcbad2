import pytest

from egress_policy.api.auth import KEY_HEADER, LINK_LIFE, SHOWN_LINK_LIFE, Gate, cookie_name
from egress_policy.api.problems import Problem
from egress_policy.api.sessions import SESSION_IDLE, SESSION_LIFE, PageSession
from tests.helpers.clock import Clock

COOKIE = cookie_name(1)


def gate(clock: Clock) -> Gate:
    return Gate("the right token", 1, {"127.0.0.1:1"}, clock)


def is_open(door: Gate, session: PageSession, cookies: str = "a=b; {}") -> bool:
    cookie = cookies.format(f"{COOKIE}={session.value}")
    try:
        door.require_access({"Cookie": cookie, KEY_HEADER: session.key}, "peer")
    except Problem:
        return False
    return True


def test_session_ends_when_it_is_idle() -> None:
    clock = Clock()
    door = gate(clock)
    session = door.open_session({})
    clock.now += SESSION_IDLE - 1
    assert is_open(door, session)
    clock.now += SESSION_IDLE - 1
    assert is_open(door, session)
    clock.now += SESSION_IDLE + 1
    assert not is_open(door, session)


def test_session_ends_though_it_is_used() -> None:
    clock = Clock()
    door = gate(clock)
    session = door.open_session({})
    for _ in range(int(SESSION_LIFE // 3600)):
        assert is_open(door, session)
        clock.now += 3600
    clock.now += 1
    assert not is_open(door, session)


def test_sessions_are_bounded() -> None:
    door = gate(Clock())
    sessions = [door.open_session({}) for _ in range(65)]
    assert not is_open(door, sessions[0])
    assert all(is_open(door, one) for one in sessions[1:])


def test_cookie_and_key_open_only_together() -> None:
    door = gate(Clock())
    one, other = door.open_session({}), door.open_session({})
    assert is_open(door, one)
    for key in ("", "wrong", other.key, one.value):
        assert not is_open(door, PageSession(one.value, key))
    for value in ("", "wrong", other.value, one.key):
        assert not is_open(door, PageSession(value, one.key))
    with pytest.raises(Problem):
        door.require_access({KEY_HEADER: one.key}, "peer")


def test_session_of_another_listener_or_an_earlier_run_opens_nothing() -> None:
    session = gate(Clock()).open_session({})
    assert not is_open(gate(Clock()), session)
    assert cookie_name(1) != cookie_name(20128)


def test_cookies_of_another_program_do_no_harm() -> None:
    door = gate(Clock())
    session = door.open_session({})
    planted = f"{COOKIE}=planted"
    assert is_open(door, session, f"{planted}; {{}}")
    assert is_open(door, session, f"{{}}; {planted}; {COOKIE}=")


def test_login_in_a_second_tab_joins_the_session_and_leaves_the_first_tab_its_key() -> None:
    clock = Clock()
    door = gate(clock)
    first = door.open_session({})
    clock.now += SESSION_LIFE - 1
    assert not is_open(door, first)  # idle for too long
    first = door.open_session({})
    clock.now += SESSION_IDLE - 1
    cookie = {"Cookie": f"{COOKIE}={first.value}"}
    second = door.open_session(cookie)
    assert second == first
    clock.now += SESSION_IDLE - 1
    assert is_open(door, first)
    door.close_session(cookie)
    assert not is_open(door, first)
    assert door.open_session(cookie) != first


def test_cookie_without_its_key_does_not_keep_a_session_alive() -> None:
    clock = Clock()
    door = gate(clock)
    session = door.open_session({})
    clock.now += SESSION_IDLE - 1
    assert not is_open(door, PageSession(session.value, "wrong"))
    clock.now += 2
    assert not is_open(door, session)


def test_link_is_for_once_and_soon() -> None:
    clock = Clock()
    door = gate(clock)
    used = []
    word = door.make_link(used=lambda: used.append(True))
    assert not used
    door.redeem_link(word, "peer")
    assert used == [True]
    with pytest.raises(Problem):
        door.redeem_link(word, "peer")
    late, shown = door.make_link(), door.make_link(SHOWN_LINK_LIFE)
    clock.now += LINK_LIFE + 1
    with pytest.raises(Problem):
        door.redeem_link(late, "peer")
    clock.now += SHOWN_LINK_LIFE - LINK_LIFE - 2
    door.redeem_link(shown, "peer")
    last = door.make_link(SHOWN_LINK_LIFE)
    clock.now += SHOWN_LINK_LIFE
    with pytest.raises(Problem):
        door.redeem_link(last, "peer")


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
    door = gate(Clock())
    door.open_session({})
    with pytest.raises(Problem):
        door.require_access({"Cookie": cookies, KEY_HEADER: door._sessions._key("")}, "peer")
