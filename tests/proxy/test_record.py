"""What a flow carries: flat plain ``egress.*`` keys that start afresh and can be saved."""

import gc
import pickle
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection, flowfilter, http, tcp
from mitmproxy.io import tnetstring
from mitmproxy.test import tflow

from egress_policy.errors import Reason
from egress_policy.model.decision import Attempt, Choice, Egress, Pin, Purpose, Refusal, Target
from egress_policy.model.proxy import Proxy
from egress_policy.proxy.record import (
    EgressRecord,
    FlowRecord,
    keep,
    line_of,
    record_of,
    taken_key,
    write_choice,
    write_connection,
    write_refusal,
    write_stream,
)

EXIT = Egress(Proxy(name="exit", host="proxy.example.com", password="s3cret"), "ipv6")
DENIED = Refusal(Reason.RULE, "The policy refuses this target", rule="#2")


def flow_with(**metadata: Any) -> http.HTTPFlow:
    flow = tflow.tflow()
    flow.metadata.update(metadata)
    return flow


def carried(flow: http.HTTPFlow | tcp.TCPFlow) -> dict[str, Any]:
    """The flow's record, as it is after saving and loading."""
    loaded = type(flow).from_state(tnetstring.loads(tnetstring.dumps(flow.get_state())))
    return {k.removeprefix("egress."): v for k, v in loaded.metadata.items() if k[:7] == "egress."}


PORT = 8080


def connected(address: str, *, egress: Egress = EXIT, choice: Choice | None = None) -> EgressRecord:
    pin = Pin((address,), 6, ttl=60.0, dns_ms=1.5)
    record = EgressRecord(egress, choice, pin, (address, PORT))
    record.connect_ms, record.handshake_ms = 2.5, 3.5
    return record


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (
            Choice(
                EXIT,
                rule="#1",
                pool="homes",
                strategy="first",
                tried=(Attempt("other", "", Reason.CONNECT_REFUSED, "proxy", 1.5),),
            ),
            {
                "use": "proxy",
                "proxy": "exit",
                "family": "ipv6",
                "rule": "#1",
                "pool": "homes",
                "strategy": "first",
                "attempt": 2,
                "tried": "other:connect_refused",
            },
        ),
        (
            Choice(Egress(None, "ipv4"), rule="default"),
            {"use": "direct", "family": "ipv4", "rule": "default"},
        ),
        (
            Choice(refusal=DENIED, rule="#2"),
            {"use": "refuse", "rule": "#2", "code": "EGRESS_REFUSED", "reason": "rule"},
        ),
    ],
    ids=["proxy", "direct", "refuse"],
)
def test_a_choice_is_written_in_plain_values(choice: Choice, expected: dict[str, Any]) -> None:
    flow = flow_with()
    write_choice(flow, choice)
    assert carried(flow) == expected


def test_a_choice_clears_what_stood_there_and_nothing_else() -> None:
    flow = flow_with(**{"egress.code": "OLD", "egress.made_up": 1, "egressive": 1, "mine": "kept"})
    write_choice(flow, Choice(EXIT, rule="#1"))
    assert "code" not in carried(flow)
    assert "made_up" not in carried(flow)
    assert (flow.metadata["egressive"], flow.metadata["mine"]) == (1, "kept")


def test_a_filter_finds_flows_by_their_egress() -> None:
    flow = flow_with()
    write_choice(flow, Choice(EXIT, rule="#1"))
    matches = flowfilter.parse('~meta "^egress.proxy: exit$"')
    assert matches(flow)
    assert not matches(flow_with())


@pytest.mark.parametrize(
    ("address", "family"),
    [
        ("192.0.2.1", "ipv4"),
        ("2001:db8::1", "ipv6"),
        ("::ffff:192.0.2.1", "ipv4"),
        ("fe80::1%eth0", "ipv6"),
    ],
)
def test_a_connection_adds_address_family_and_dns(address: str, family: str) -> None:
    server = connection.Server(address=("origin.test", 443))
    keep(server, connected(address))
    first, second = flow_with(), flow_with()
    write_connection(first, server)
    write_connection(second, server)
    expected = {"address": address, "port": PORT, "peer_family": family}
    expected |= {"dns_ms": 1.5, "dns_ttl": 60.0, "connect_ms": 2.5, "handshake_ms": 3.5}
    assert carried(first) == {**expected, "reused": False}
    assert carried(second) == {**expected, "reused": True}


texts, counts = st.text(), st.integers(0, 10**12)
numbers = st.floats(0, 1e12) | counts
TYPES: dict[str, st.SearchStrategy[Any]] = {
    "reused": st.booleans(),
    "attempt": counts,
    "port": counts,
    "dns_ms": numbers,
    "dns_ttl": numbers,
    "connect_ms": numbers,
    "handshake_ms": numbers,
}
entries = st.fixed_dictionaries(
    {},
    optional={name: TYPES.get(name, texts) for name in FlowRecord._fields},
)


@given(entries)
def test_a_record_is_what_its_metadata_says_and_the_other_way_round(said: dict[str, Any]) -> None:
    metadata = {f"egress.{name}": value for name, value in said.items()}
    record = FlowRecord.from_metadata({**metadata, "mine": 1, "egress.made_up": 1})
    assert {name: value for name, value in record._asdict().items() if name in said} == said
    assert record.to_metadata() == metadata


@given(st.dictionaries(st.sampled_from(FlowRecord._fields), st.none() | st.binary()))
def test_an_entry_of_another_type_is_missing(said: dict[Any, Any]) -> None:
    metadata = {f"egress.{name}": value for name, value in said.items()}
    assert FlowRecord.from_metadata(metadata) == FlowRecord()


@pytest.mark.parametrize(
    "wrong",
    [10**5000, -1, float("nan"), float("inf"), 10**400, True],
    ids=lambda one: type(one).__name__,
)
def test_a_number_that_cannot_be_is_missing(wrong: float) -> None:
    names = ("port", "attempt", "dns_ms", "connect_ms", "handshake_ms")
    metadata = {f"egress.{name}": wrong for name in names}
    assert FlowRecord.from_metadata(metadata) == FlowRecord()


@pytest.mark.parametrize(
    "wrong", [10**5000, 10**400, float("nan")], ids=["very long", "long", "none"]
)
def test_a_saved_flow_with_any_record_starts_afresh(wrong: float) -> None:
    flow = flow_with(**{"egress.use": "proxy", "egress.address": "a", "egress.port": wrong})
    flow.metadata["egress.connect_ms"] = wrong
    flow.comment = "mine"
    write_choice(flow, Choice(EXIT))
    assert carried(flow) == {"use": "proxy", "proxy": "exit", "family": "ipv6", "rule": ""}
    assert flow.comment == "mine"


def test_a_line_about_a_saved_flow_is_bounded() -> None:
    flow = flow_with(**{"egress.use": "proxy"})
    for name in ("proxy", "pool", "rule", "tried", "address"):
        flow.metadata[f"egress.{name}"] = "\x1b" * 1_000_000
    assert len(str(line_of(flow))) < 100_000


def test_a_connection_without_record_or_look_up_adds_what_there_is() -> None:
    flow, server = flow_with(), connection.Server(address=("origin.test", 443))
    write_connection(flow, server)
    assert carried(flow) == {}
    keep(server, EgressRecord(pin=Pin(("192.0.2.1",), 4)))
    write_connection(flow, server)
    assert carried(flow) == {"reused": False}


def test_a_refusal_adds_code_and_reason() -> None:
    flow = flow_with()
    write_refusal(flow, Refusal(Reason.CONNECT_TIMEOUT, "No answer"))
    assert carried(flow) == {"code": "PROXY_UNREACHABLE", "reason": "connect_timeout"}
    tried = (
        Attempt("home-1", "", Reason.CONNECT_REFUSED, "proxy", 1.5),
        Attempt("home-2", "", Reason.CONNECT_TIMEOUT, "proxy", 5000.0),
    )
    write_refusal(flow, Refusal(Reason.CONNECT_TIMEOUT, "No answer", fault="proxy", tried=tried))
    assert carried(flow) == {
        "code": "PROXY_UNREACHABLE",
        "reason": "connect_timeout",
        "fault": "proxy",
        "attempt": 2,
        "tried": "home-1:connect_refused, home-2:connect_timeout",
    }


@pytest.mark.parametrize(
    ("refusal", "proxy", "planned"),
    [
        (Refusal(Reason.CONNECT_REFUSED, "No", "home-1"), "home-1", None),
        (Refusal(Reason.NO_RECORD, "No", "home-1"), "home-1", None),
        (Refusal(Reason.CONNECT_REFUSED, "No", "direct"), None, "direct"),
        (Refusal(Reason.DELETED, "No", "homes", names_egress=False), None, None),
        (Refusal(Reason.DELETED, "No", "home-1"), "home-1", None),
    ],
)
def test_a_refusal_says_by_what_the_flow_was_to_leave(
    refusal: Refusal, proxy: str | None, planned: str | None
) -> None:
    flow = flow_with()
    write_choice(flow, Choice(refusal=DENIED, rule="#2"))
    write_refusal(flow, refusal)
    assert (carried(flow).get("proxy"), carried(flow).get("planned")) == (proxy, planned)


def test_a_stream_gets_the_whole_record_each_time_it_is_written() -> None:
    flow = tflow.ttcpflow()
    write_stream(flow, flow.server_conn)
    assert carried(flow) == {}
    record = keep(flow.server_conn, connected("2001:db8::1", choice=Choice(EXIT, rule="#1")))
    for _ in range(2):
        write_stream(flow, flow.server_conn)
        assert carried(flow)["proxy"] == "exit"
        assert carried(flow)["reused"] is False
        assert "code" not in carried(flow)
    record.refusal = DENIED
    write_stream(flow, flow.server_conn)
    assert carried(flow)["code"] == "EGRESS_REFUSED"


def test_a_connection_takes_the_egress_that_its_record_has() -> None:
    server = connection.Server(address=("origin.test", 443))
    assert taken_key(server) is None
    keep(server, EgressRecord(EXIT))
    assert taken_key(server) == EXIT.key


def test_records_go_with_their_connections() -> None:
    server = connection.Server(address=("origin.test", 443))
    keep(server, EgressRecord())
    again = connection.Server(address=("origin.test", 443))
    del server
    assert record_of(again) is None


def test_a_record_goes_with_its_connection_though_it_leads_back_to_it() -> None:
    server = connection.Server(address=("origin.test", 443))
    flow = tcp.TCPFlow(tflow.tclient_conn(), server)
    target = Target("origin.test", 443, "127.0.0.1", "tcp", flow)
    keep(server, EgressRecord(EXIT, Choice(EXIT, purpose=Purpose(target))))
    left = weakref.ref(server)
    del server, flow, target
    gc.collect()
    assert left() is None


def test_a_pickled_connection_takes_no_password_along() -> None:
    server = connection.Server(address=("origin.test", 443))
    keep(server, EgressRecord(EXIT))
    assert b"s3cret" not in pickle.dumps(server)
    assert record_of(pickle.loads(pickle.dumps(server))) == EgressRecord()
