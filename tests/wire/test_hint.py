"""Recognises what a peer speaks from as few bytes as possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.wire.hint import Kind, hint

KINDS: list[Kind] = ["http", "https", "socks5"]


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b"HTTP/1.1 400", [None, "an HTTP proxy", "an HTTP proxy"]),
        (b"\x15\x03\x03", ["behind TLS", None, "behind TLS"]),
        (b"\x05\xff", ["a SOCKS proxy", "a SOCKS proxy", None]),
        (b"\x00\x5b", ["a SOCKS4 proxy"] * 3),
        (b"\x00\x5a", [None] * 3),
        (b"SSH-2.0", [None] * 3),
    ],
)
def test_only_another_protocol_is_named(first: bytes, told: list[str | None]) -> None:
    for kind, what in zip(KINDS, told, strict=True):
        said = hint(first, kind)
        assert said == "" if what is None else what in (said or "")


@given(st.binary(max_size=4), st.sampled_from([b"", b"HT", b"\x15", b"\x00"]), st.binary())
def test_more_bytes_do_not_change_a_hint(head: bytes, start: bytes, more: bytes) -> None:
    for kind in KINDS:
        told = hint(start + head, kind)
        assert told is None or told == hint(start + head + more, kind)
