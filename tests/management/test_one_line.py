"""The line about a flow, from its record and from its event in the live view."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.management.live import LiveEvent
from egress_policy.management.one_line import one_line
from egress_policy.model.text import printable
from egress_policy.proxy.record import FlowRecord

V6 = {
    "use": "proxy",
    "proxy": "v6-exit",
    "rule": "#1",
    "family": "ipv6",
    "address": "2001:db8::1",
    "port": 1080,
    "peer_family": "ipv6",
    "connect_ms": 4.2,
    "handshake_ms": 7.9,
    "reused": False,
    "exit": "198.51.100.7",
}
LINES = [
    (V6, "via v6-exit [2001:db8::1]:1080 IPv6, rule #1, 12 ms to the exit"),
    ({**V6, "reused": True}, "via v6-exit [2001:db8::1]:1080 IPv6, rule #1, reused"),
    (
        {**V6, "reused": True, "cut": "exit"},
        "via v6-exit [2001:db8::1]:1080 IPv6, rule #1, reused, cut: its exit is a wrong one",
    ),
    ({"use": "direct", "rule": "#1", "cut": "\n"}, "direct, rule #1, not connected, cut: \\n"),
    (
        {**V6, "connect_ms": 0.2, "handshake_ms": None},
        "via v6-exit [2001:db8::1]:1080 IPv6, rule #1, < 1 ms to the exit",
    ),
    (
        {**V6, "pool": "homes", "tried": "one:connect_refused", "connect_ms": None},
        "via v6-exit of homes [2001:db8::1]:1080 IPv6, rule #1, after one:connect_refused",
    ),
    (
        {"use": "direct", "rule": "default", "address": "192.0.2.1", "port": 443}
        | {"peer_family": "ipv4", "connect_ms": 5.0},
        "direct 192.0.2.1:443 IPv4, default",
    ),
    (
        {"use": "proxy", "proxy": "office", "rule": "#2", "code": "C", "reason": "no_record"},
        "refused: no_record, rule #2 (office)",
    ),
    (
        {"use": "proxy", "pool": "homes", "rule": "all", "code": "C", "reason": "connect_refused"}
        | {"proxy": "two", "tried": "one:proxy_auth, two:connect_refused"},
        "refused: connect_refused, rule all (two of homes), "
        "tried one:proxy_auth, two:connect_refused",
    ),
    (
        {"use": "proxy", "pool": "homes", "rule": "all", "code": "C", "reason": "connect_refused"}
        | {"proxy": "one", "tried": "one:connect_refused"},
        "refused: connect_refused, rule all (one of homes)",
    ),
    ({"use": "refuse", "rule": "#3", "code": "C", "reason": "rule"}, "refused, rule #3"),
    ({"use": "refuse", "rule": "ads"}, "refused, rule ads"),
    ({**V6, "rule": "global:__global__", "reused": True},
     "via v6-exit [2001:db8::1]:1080 IPv6, global, reused"),
    (
        {"use": "refuse", "rule": "default", "code": "C", "reason": "default"},
        "refused, default",
    ),
    ({"use": "proxy", "proxy": "one", "rule": "#1"}, "via one, rule #1, not connected"),
    ({"use": "proxy", "proxy": "a\u202eb", "rule": "\x1b[31m"}, "via a\\u202eb, rule "
     "\\x1b[31m, not connected"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "line"), LINES)
def test_line_says_the_way(said: dict[str, Any], line: str) -> None:
    record = FlowRecord(**said)
    assert str(one_line(record, record.port)) == line
    known = {key: value for key, value in said.items() if key != "port"}
    event = LiveEvent(
        at=0, flow_id="", client="", kind="http", host="", port=0, hop_port=record.port, **known
    )
    assert str(one_line(event, event.hop_port)) == line


def test_flow_that_no_policy_decided_about_has_no_line() -> None:
    assert one_line(FlowRecord(), None) is None
    assert one_line(FlowRecord(use="nonsense"), None) is None


_ANYTHING = st.none() | st.text(max_size=9) | st.integers() | st.floats() | st.booleans()


@given(st.dictionaries(st.sampled_from(FlowRecord._fields), _ANYTHING))
def test_line_of_any_saved_flow_is_one_and_can_be_shown(said: dict[str, Any]) -> None:
    metadata = {f"egress.{key}": value for key, value in said.items()}
    record = FlowRecord.from_metadata({"egress.use": "proxy", **metadata})
    line = one_line(record, record.port)
    assert line is None or str(line) == printable(str(line))
