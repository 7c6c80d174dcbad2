"""The SOCKS5 client handshake, against RFC 1928/1929 and a tiny server written from them."""

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.wire.hint import SILENT_TO_SOCKS
from egress_policy.wire.socks5 import REPLIES, Greeting, Handshake, Socks5Error
from tests.helpers.pieces import pieces

LONGEST_REPLY = 4 + 1 + 255 + 2
OPENED = bytes.fromhex("05 00 00 01 00000000 0000")


@dataclass
class Server:
    """The other half, written from the RFCs: answers as soon as a message is complete."""

    username: bytes = b""
    password: bytes = b""
    reply: bytes = OPENED
    auth_version: int = 1
    greeting: bytes = b""
    target: tuple[int, bytes, int] | None = None
    failed: bool = False
    _buffer: bytes = field(default=b"", repr=False)

    def receive(self, data: bytes) -> bytes:
        self._buffer += data
        answer = b""
        while not self.failed and self.target is None and (step := self._step(self._buffer)):
            answer += step
        return answer

    def _step(self, data: bytes) -> bytes:
        if not self.greeting:
            if len(data) < 2 or len(data) < 2 + data[1]:
                return b""
            self.greeting, self._buffer = data[: 2 + data[1]], data[2 + data[1] :]
            method = 2 if self.username else 0
            self.failed = method not in self.greeting[2:]
            self._authenticated = not self.username
            return bytes((5, 255 if self.failed else method))
        if not self._authenticated:
            if len(data) < 2 or len(data) < 3 + data[1]:
                return b""
            end = 2 + data[1]
            username, password = data[2:end], data[end + 1 : end + 1 + data[end]]
            self._buffer = data[end + 1 + data[end] :]
            self._authenticated = (username, password) == (self.username, self.password)
            self.failed = data[0] != 1 or not self._authenticated
            return bytes((self.auth_version, 1 if self.failed else 0))
        if len(data) < 5:
            return b""
        assert data[:3] == b"\x05\x01\x00"
        start, length = {1: (4, 4), 3: (5, data[4]), 4: (4, 16)}[data[3]]
        if len(data) < start + length + 2:
            return b""
        port = int.from_bytes(data[start + length : start + length + 2])
        self.target = (data[3], data[start : start + length], port)
        return self.reply


def talk(client: Handshake, server: Server, cuts: list[int] | None = None) -> bytes:
    """Run both halves, with the server's messages cut. Returns what the server sent."""
    sent = to_server = client.start()
    while to_server and not client.done:
        incoming = pieces(server.receive(to_server), cuts or [])
        to_server = b""
        for number, piece in enumerate(incoming):
            if client.done:
                client.rest += b"".join(incoming[number:])
                break
            to_server += client.receive(piece)
        sent += to_server
    return sent


def test_offers_no_authentication_alone_without_credentials() -> None:
    assert Handshake("a.example", 443).start() == b"\x05\x01\x00"


def test_offers_user_password_alone_with_credentials() -> None:
    assert Handshake("a.example", 443, "u", "p").start() == b"\x05\x01\x02"


def test_whole_dialogue_with_credentials() -> None:
    client = Handshake("a.example", 443, "alice", "päss")
    assert client.receive(b"\x05\x02") == b"\x01\x05alice\x05p\xc3\xa4ss"
    assert client.receive(b"\x01\x00") == b"\x05\x01\x00\x03\x09a.example\x01\xbb"
    assert not client.done
    assert client.receive(OPENED + b"220 hello") == b""
    assert client.done
    assert client.rest == b"220 hello"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", (1, bytes((192, 0, 2, 1)))),
        ("2001:db8::1", (4, bytes.fromhex("20010db8000000000000000000000001"))),
        ("xn--bcher-kva.example", (3, b"xn--bcher-kva.example")),
        ("under_score.example", (3, b"under_score.example")),
        ("a" * 255, (3, b"a" * 255)),
    ],
)
def test_asks_for_the_target(host: str, expected: tuple[int, bytes]) -> None:
    server = Server()
    talk(Handshake(host, 8443), server)
    assert server.target == (*expected, 8443)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 443),
        ("a" * 256, 443),
        ("bücher.example", 443),
        ("a b.example", 443),
        ("a.example\r\n", 443),
        ("a\0.example", 443),
        *((host, 443) for host in ("a/b", "a?b", "a#b", "x@a.example", "a:80", "a%20b", "a\\b")),
        ("fe80::1%eth0", 443),
        ("a.example", 0),
        ("a.example", 65536),
        ("a.example", -1),
    ],
)
def test_target_that_socks5_cannot_carry_is_refused_at_once(host: str, port: int) -> None:
    with pytest.raises(Socks5Error) as error:
        Handshake(host, port)
    assert not error.value.auth


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("", "p"),
        ("u" * 256, "p"),
        ("u", "ä" * 128),
        ("u", "secret\udc80"),
        ("\ud800", "p"),
    ],
)
def test_credentials_that_socks5_cannot_carry_are_refused_unquoted(
    username: str, password: str
) -> None:
    with pytest.raises(Socks5Error) as error:
        Handshake("a.example", 443, username, password)
    assert error.value.auth
    assert "secret" not in str(error.value)
    assert error.value.__context__ is None or error.value.__suppress_context__


@pytest.mark.parametrize(("username", "password"), [("u" * 255, "p" * 255), ("u", "")])
def test_longest_credentials_and_an_empty_password_fit(username: str, password: str) -> None:
    server = Server(username.encode(), password.encode())
    client = Handshake("a.example", 443, username, password)
    talk(client, server)
    assert client.done


def test_an_empty_password_has_the_length_zero() -> None:
    assert Handshake("a.example", 443, "alice").receive(b"\x05\x02") == b"\x01\x05alice\x00"


def test_only_a_server_that_has_said_nothing_may_be_another_one() -> None:
    client = Handshake("a.example", 443)
    client.start()
    assert client.silence == SILENT_TO_SOCKS
    client.receive(b"\x05")
    assert client.silence == ""
    client.receive(b"\x00")
    assert client.silence == ""


@pytest.mark.parametrize("pair", [("", ""), ("alice", "s3cret")])
def test_the_target_is_asked_for_after_the_greeting_and_the_credentials(
    pair: tuple[str, str],
) -> None:
    client = Handshake("a.example", 443, *pair)
    server = Server(pair[0].encode(), pair[1].encode())
    answer = server.receive(client.start())
    while answer:
        assert client.asked is (server.target is not None)
        for byte in answer:
            sent = client.receive(bytes((byte,)))
            client.ended()  # says nothing, wherever it comes
        answer = server.receive(sent) if sent else b""
    assert client.done


@pytest.mark.parametrize("code", sorted(REPLIES))
def test_every_failure_code_has_its_text(code: int) -> None:
    with pytest.raises(Socks5Error, match=REPLIES[code]) as error:
        talk(Handshake("a.example", 443), Server(reply=b"\x05" + bytes((code,)) + OPENED[2:]))
    assert not error.value.auth
    assert str(error.value).startswith("asked for a.example port 443, the SOCKS5 proxy answered: ")


@pytest.mark.parametrize(
    ("answer", "auth", "text"),
    [
        (b"\x05\xff", True, "demands authentication"),
        (b"\x05\x02", False, "chose method 0x02, which was not offered: it wants a username"),
        (b"\x05\x7f", False, "chose method 0x7f"),
        (b"\x04", False, "version 0x04 instead of 0x05"),
        (b"HTTP/1.1 400 Bad Request\r\n", False, "0x05: this looks like an HTTP proxy"),
        (b"HTTP:", False, "version 0x48 instead of 0x05$"),
        (b"\x15\x03\x03\x00\x02\x02F", False, "0x05: this looks like a proxy behind TLS"),
        (b"\x00\x5b", False, "0x05: this looks like a SOCKS4 proxy, which is not supported$"),
        (b"\x05\x00\x04", False, "version 0x04 instead of 0x05"),
        (b"\x05\x00\x05\x09", False, "unassigned reply code 0x09"),
        (b"\x05\x00\x05\xff", False, "unassigned reply code 0xff"),
        (b"\x05\x00\x05\x01", False, "general SOCKS server failure"),
        (b"\x05\x00\x05\x00\x00\x02", False, "address type 0x02"),
    ],
)
def test_wrong_answers_without_credentials(answer: bytes, auth: bool, text: str) -> None:
    with pytest.raises(Socks5Error, match=text) as error:
        Handshake("a.example", 443).receive(answer)
    assert error.value.auth is auth


@pytest.mark.parametrize(
    ("answer", "auth", "text"),
    [
        (b"\x05\xff", True, "does not accept user/password"),
        (b"\x05\x00", False, "chose method 0x00, .* takes no username and password; remove them"),
        (b"\x05\x02\x01\x01", True, "rejected the username or password"),
        (b"\x05\x02\x05\x01", True, "rejected the username or password"),
        (b"\x05\x02\x00\xff", True, "rejected the username or password"),
        (b"\x05\x02\x02\x00", False, "version 0x02 instead of 0x01"),
        (b"\x05\x02HTTP/1.1 400", False, "0x01: this looks like an HTTP proxy"),
    ],
)
def test_wrong_answers_with_credentials(answer: bytes, auth: bool, text: str) -> None:
    with pytest.raises(Socks5Error, match=text) as error:
        Handshake("a.example", 443, "alice", "s3cret").receive(answer)
    assert error.value.auth is auth
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "reply",
    [
        OPENED,
        bytes.fromhex("05 00 00 04 20010db8000000000000000000000001 0438"),
        b"\x05\x00\x00\x03\x07a.proxy\x04\x38",
        b"\x05\x00\x00\x03\x00\x04\x38",
        b"\x05\x00\x00\x03\xff" + b"x" * 255 + b"\x04\x38",
        b"\x05\x00\xaa\x01" + OPENED[4:],
    ],
)
def test_any_form_of_bound_address_opens_and_every_truncation_waits(reply: bytes) -> None:
    for end in range(len(reply)):
        client = Handshake("a.example", 443)
        client.receive(b"\x05\x00" + reply[:end])
        assert not client.done
        client.receive(reply[end:])
        assert client.done
        assert client.rest == b""


@given(st.booleans(), st.lists(st.integers(0, 8)))
def test_a_greeting_ends_before_a_target_is_asked_for(account: bool, cuts: list[int]) -> None:
    username, password = ("u", "p") if account else ("", "")
    greeting, server = Greeting(username, password), Server(username.encode(), password.encode())
    sent = to_server = greeting.start()
    while to_server and not greeting.done:
        answer = server.receive(to_server)
        to_server = b"".join(greeting.receive(piece) for piece in pieces(answer, cuts) if piece)
        sent += to_server
    assert greeting.done
    assert sent == (bytes.fromhex("050102 01017501 70") if account else bytes.fromhex("050100"))
    assert server.target is None


def test_a_handshake_tells_when_the_target_was_asked_for() -> None:
    handshake = Handshake("origin.test", 80, "u", "p")
    handshake.start()
    handshake.receive(b"\x05\x02")
    assert not handshake.asked
    handshake.receive(b"\x01\x00")
    assert handshake.asked


def test_bytes_after_the_end_belong_to_the_tunnel() -> None:
    client = Handshake("a.example", 443)
    client.receive(b"\x05\x00" + OPENED)
    with pytest.raises(RuntimeError):
        client.receive(b"x")


hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z0-9-]{1,20}(\.[a-z0-9-]{1,20}){0,3}", fullmatch=True),
)
credentials = st.one_of(
    st.just(("", "")),
    st.tuples(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
        st.text(st.characters(codec="utf-8"), max_size=60),
    ),
)


@given(
    host=hosts,
    port=st.integers(1, 65535),
    pair=credentials,
    version=st.sampled_from([0, 1, 5]),
    rest=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 1000), max_size=12),
)
def test_any_split_of_the_dialogue_gives_the_same_result(
    host: str, port: int, pair: tuple[str, str], version: int, rest: bytes, cuts: list[int]
) -> None:
    username, password = (text.encode() for text in pair)
    outcomes = []
    for places in ([], cuts, list(range(1000))):
        server = Server(username, password, OPENED + rest, version)
        client = Handshake(host, port, *pair)
        sent = talk(client, server, places)
        assert client.done
        assert client.rest == rest
        outcomes.append((sent, server.target))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def outcome(pair: tuple[str, str], parts: list[bytes]) -> object:
    """The full result of a server's bytes."""
    client = Handshake("a.example", 443, *pair)
    sent, rest = client.start(), b""
    for part in parts:
        if client.done:
            rest += part
            continue
        try:
            sent += client.receive(part)
        except Socks5Error as error:
            return str(error), error.auth
    return client.done, client.rest + rest, sent


pairs = st.sampled_from([("", ""), ("u", "p"), ("u", "")])
heads = st.sampled_from(
    [
        *(b"", b"\x05\x00", b"\x05\x02", b"\x05\x00\x05\x00\x00", b"HTTP", b"\x15", b"\x00"),
        *(b"\x05\x02\x01\x00", b"\x05\x02\x05\x01", b"\x05\x02\x00", b"\x05\x02HT"),
    ]
)


@given(pairs, heads, st.binary(max_size=30), st.lists(st.integers(0, 40), max_size=6))
def test_any_split_of_any_answer_gives_the_same_result(
    pair: tuple[str, str], head: bytes, garbage: bytes, cuts: list[int]
) -> None:
    answer = head + garbage
    whole = outcome(pair, [answer])
    assert whole == outcome(pair, pieces(answer, cuts))
    assert whole == outcome(pair, pieces(answer, list(range(40))))


@given(
    pair=pairs,
    head=heads,
    garbage=st.binary(max_size=600),
    cuts=st.lists(st.integers(0, 1000), max_size=12),
)
def test_garbage_never_raises_anything_else_nor_is_hoarded(
    pair: tuple[str, str], head: bytes, garbage: bytes, cuts: list[int]
) -> None:
    client = Handshake("a.example", 443, *pair)
    received = b""
    with contextlib.suppress(Socks5Error):
        for piece in pieces(head + garbage, cuts):
            client.receive(piece)
            received += piece
            if client.done:
                assert received.endswith(client.rest)
                break
            assert len(client._buffer) < LONGEST_REPLY
