"""Answers of an echo with a key: what is believed, and what a proxy on the way cannot make."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.client.signed_echo import EchoQuestion, is_nonce, signed_answer
from egress_policy.model.target_url import parse_target_url

KEY, NONCE, SEEN = b"a key of the echo", "n" * 22, "203.0.113.7"
URL = parse_target_url("http://192.0.2.1:8088/")


def read(said: Any) -> tuple[str | None, str]:
    question = EchoQuestion(URL, KEY, NONCE)
    found = question.read(said if isinstance(said, bytes) else json.dumps(said).encode())
    assert (found is None) is bool(question.problem)
    return found, question.problem


def answer(**changes: Any) -> dict[str, Any]:
    return {**signed_answer(KEY, NONCE, SEEN, 1_764_432_000), **changes}


def test_the_signed_answer_is_believed() -> None:
    assert read(answer()) == (SEEN, "")
    assert read(signed_answer(KEY, NONCE, "2001:db8::1", 0))[0] == "2001:db8::1"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"203.0.113.7", "not signed"),
        (b"", "not signed"),
        (b"[" * 100_000, "not signed"),
        (b"[1]", "not signed"),
        ({"ip": SEEN}, "not signed"),
        (answer(mac=None), "not signed"),
        (answer(mac="é"), "changed"),
        (answer(mac="\ud800"), "changed"),
        (answer(time="1764432000"), "not signed"),
        (answer(time=True), "not signed"),
        (answer(ip=1), "not signed"),
        (answer(ip="203.0.113.8"), "changed"),
        (answer(time=1_764_432_001), "changed"),
        (answer(mac="0" * 64), "changed"),
        (signed_answer(b"another key", NONCE, SEEN, 0), "changed"),
        (signed_answer(KEY, "m" * 22, SEEN, 1_764_432_000), "another question"),
        ({**signed_answer(KEY, "m" * 22, SEEN, 1_764_432_000), "nonce": NONCE}, "changed"),
    ],
)
def test_any_other_answer_is_not(said: Any, why: str) -> None:
    found, problem = read(said)
    assert found is None
    assert why in problem
    assert SEEN not in problem


@given(st.sampled_from(["ip", "nonce", "time", "mac"]), st.text() | st.integers())
def test_no_part_can_be_another(part: str, value: Any) -> None:
    said = answer(**{part: value})
    found, _ = read(said)
    believed = said == answer() or part == "nonce"  # whose copy in the answer proves nothing
    assert (found == SEEN) is believed


@given(st.binary(max_size=300))
def test_no_answer_raises(body: bytes) -> None:
    assert read(body)[0] is None


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://echo.test", f"/?nonce={NONCE}"),
        ("http://echo.test/ip?x=1", f"/ip?x=1&nonce={NONCE}"),
    ],
)
def test_the_nonce_is_added_to_the_url(url: str, path: str) -> None:
    assert EchoQuestion(parse_target_url(url), KEY, NONCE).url.path == path


def test_every_question_has_a_nonce_of_its_own() -> None:
    paths = {EchoQuestion(URL, KEY).url.path for _ in range(100)}
    assert len(paths) == 100
    assert all(is_nonce(path.partition("=")[2]) for path in paths)
