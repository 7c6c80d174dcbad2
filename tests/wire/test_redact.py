"""An account is found in every spelling, and other words stay unchanged."""

import base64
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.wire.redact import Redactor

OURS = Redactor("alice", "s3cret/p@ss?")
TOKEN = "YWxpY2U6czNjcmV0L3BAc3M/"


def token(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PAIR_SPELLINGS: list[Callable[[str], str]] = [
    token,
    lambda text: token(text).rstrip("="),
    lambda text: token(text).translate(str.maketrans("+/", "-_")),
    lambda text: quote(token(text), safe=""),
    lambda text: token(text).lower(),
    lambda text: f"Basic {token(text)}",
    lambda text: token(f"Proxy-Authorization: Basic {token(text)}"),
    lambda text: token(f"for {text}"),
    lambda text: token(f"no {text} here"),
    lambda text: token(f"of {text} here"),
]
SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda text: quote(text, safe=""),
    lambda text: quote(text, safe="").lower(),
    lambda text: quote(quote(text), safe=""),
    lambda text: quote(text, safe="%"),
    quote_plus,
    lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
    lambda text: repr(text)[1:-1],
    lambda text: repr(text.encode())[2:-1],
    lambda text: repr(repr(text.encode()))[3:-2],
    lambda text: text.encode().upper().decode(),
]
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=6)


@given(words.filter(lambda text: ":" not in text), words, st.data())
def test_every_spelling_is_found(username: str, password: str, data: st.DataObject) -> None:
    redactor = Redactor(username, password)
    spelling = data.draw(st.sampled_from(SPELLINGS))
    part = data.draw(st.sampled_from([f"{username}:{password}", username, password]))
    _is_found(redactor, spelling(part))
    _is_found(redactor, data.draw(st.sampled_from(PAIR_SPELLINGS))(f"{username}:{password}"))


def _is_found(redactor: Redactor, spelled: str) -> None:
    told = redactor.text(f"Bad line: b'HTTP/1.1 {spelled}'")
    assert "***" in told
    assert spelled not in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no s3cret/p@ss? here", "no *** here"),
        ("Alice may not", "*** may not"),
        ("no alice:s3cret/p@ss?, sorry", "no ***, sorry"),
        ("for http://alice:s%33cret%2fp%40ss%3F@proxy.test/", "for ***"),
        (f"b'Proxy-Authorization: Basic {TOKEN}'", "b'Proxy-Authorization: Basic ***'"),
        (f"[{TOKEN.replace('/', '_')}] b", "*** b"),
        (f"<{token('x' + 'alice:s3cret/p@ss?')}> b", "*** b"),
        ("bytearray(b'alice:s3cret/p@ss?')", "bytearray(b'***')"),
        (f"cut off: b'407 Basic {TOKEN[:9]}'", "cut off: b'407 Basic ***'"),
        (f"cut off: {TOKEN[:20]}", "cut off: ***"),
        ("\ud83d alice:s3cret/p@ss?", "\\ud83d ***"),
    ],
)
def test_the_rest_of_a_text_stays(said: str, told: str) -> None:
    assert OURS.text(said) == told


@pytest.mark.parametrize(
    "text",
    [
        "Cannot parse HTTP response: Bad HTTP response line: b'SSH-2.0-x'",
        "100% \\x41 \\ud800 %zz secret pass",
        f"{token('another:account')}",
        "\ud800",
        "",
    ],
)
def test_other_words_are_left_as_they_are(text: str) -> None:
    assert OURS.text(text) == text


@pytest.mark.parametrize(
    ("username", "password", "said", "told"),
    [
        ("u", "s3cret", "u is u", "u is u"),
        ("", "s3cret", "a:s3cret", "a***"),
        ("", "s3cret", f"{token(':s3cret')}", "***"),
        ("u", "p", "up u:p dTpw dTpwx", "up *** *** dTpwx"),
        ("key-1", "", "key-1 a2V5LTE6", "*** ***"),
        ("", "", "a : b Og==", "a : b Og=="),
        ("abc", "%41%42", "AB %41%42 ab", "AB *** ab"),
    ],
)
def test_a_short_part_by_itself_is_not_redacted(
    username: str, password: str, said: str, told: str
) -> None:
    assert Redactor(username, password).text(said) == told


Fields = tuple[tuple[bytes, bytes], ...]


@pytest.mark.parametrize(
    ("username", "password", "fields", "told"),
    [
        # What the target says of its own users is not the proxy's.
        ("user", "s3cret", ((b"Set-Cookie", b"user=7"),), ((b"Set-Cookie", b"user=7"),)),
        ("user", "s3cret", ((b"X", b"user:s3cret"),), ((b"X", b"***"),)),
        ("user", "", ((b"X", b"user=7"),), ((b"X", b"***=7"),)),
        ("user-7", "s3cret", ((b"X", b"for user-7."),), ((b"X", b"for ***."),)),
        # An answer stays one that can be read.
        ("u", "123", ((b"content-length", b"1234"),), ((b"content-length", b"1234"),)),
        ("u", "123", ((b"Content-Length", b"x123"),), ((b"Content-Length", b"x***"),)),
        ("u", "date", ((b"date", b"1"), (b"x-date", b"2")), ((b"***", b"1"), (b"x-date", b"2"))),
        ("u", "s3cret", ((b"Basic dTpzM2NyZXQ", b"1"),), ((b"***", b"1"),)),
        ("u", "s3cret", ((b"%73%33cret", b"\xff"),), ((b"***", b"\xff"),)),
    ],
)
def test_head_of_an_answer(username: str, password: str, fields: Fields, told: Fields) -> None:
    assert Redactor(username, password).head(b"OK", fields) == (b"OK", told)


def test_reason_of_an_answer() -> None:
    fields = ((b"Server", b"lab"),)
    assert OURS.head(f"for {TOKEN}".encode(), fields) == (b"for ***", fields)


@given(st.text(), st.text(), st.binary(), st.text())
def test_nothing_is_raised(username: str, password: str, octets: bytes, text: str) -> None:
    redactor = Redactor(username, password)
    redactor.text(text)
    redactor.text(repr(octets))
    redactor.head(octets, ((octets, octets),))


def test_a_password_that_looks_like_an_escape_is_found_as_it_stands() -> None:
    redactor = Redactor("00", "00\\x00")
    assert "***" in redactor.text("Bad line: b'HTTP/1.1 00%5Cx00%3A00%5Cx00'")
    assert "***" in redactor.text("Bad line: 00:00%5Cx00")


def test_a_long_text_with_a_secret_goes_whole() -> None:
    redactor = Redactor("user7", "hunter2-long")
    long = b"a " * 25_000 + b"hunter2%2Dlong"
    reason, fields = redactor.head(b"OK", ((b"X", long), (b"Y", b"a " * 25_000), (b"Z", b"1")))
    assert (reason, fields) == (b"OK", ((b"X", b"***"), (b"Y", b"a " * 25_000), (b"Z", b"1")))


def test_a_head_of_very_many_fields_with_a_secret_goes_whole() -> None:
    redactor = Redactor("user7", "hunter2-long")
    many = ((b"X", b"1"),) * 1001
    assert redactor.head(b"OK", many) == (b"OK", many)
    assert redactor.head(b"OK", (*many, (b"Y", b"hunter2-long"))) == (b"OK", ())


def test_a_password_within_the_name_of_a_header_goes_with_it() -> None:
    redactor = Redactor("alice", "hunter2-long")
    assert redactor.head(b"OK", ((b"X-hunter2-long", b"1"),))[1] == ((b"***", b"1"),)
