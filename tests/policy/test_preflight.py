import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.model.decision import Pin, Refusal
from egress_policy.model.family import FamilyNumber
from egress_policy.model.host import Party
from egress_policy.policy.preflight import DnsAnswer, Query, judge, plan
from egress_policy.sentence import Sentence
from tests.helpers.conformance import load

HOST = "proxy.example.com"


def vector_answer(vector: dict[str, Any], query: Query) -> DnsAnswer:
    """What a faultless resolver makes of the vector."""
    if vector.get("timeout"):
        return DnsAnswer((), 2, "timeout", "timed out after 3000 ms")
    if "rcode" in vector:
        return DnsAnswer((), 2, "failure", vector["rcode"])
    records = tuple(vector.get("A" if query.family == 4 else "AAAA", ()))
    return DnsAnswer(records, 60, "records" if records else "no_record")


@pytest.mark.parametrize("vector", load("preflight"), ids=str)
def test_conformance(vector: dict[str, Any]) -> None:
    outcome = plan(vector["host"], vector["family"])
    if isinstance(outcome, Query):
        assert vector.get("queries", 1) == 1
        outcome = judge(outcome, vector_answer(vector, outcome))
    if "refuse" in vector:
        assert isinstance(outcome, Refusal)
        assert outcome.reason == vector["refuse"]
        assert vector.get("text", "").lower() in outcome.detail.lower()
    else:
        assert isinstance(outcome, Pin)
        assert outcome.addresses == tuple(vector["pin"] or [vector["host"]])
        assert (outcome.family is None) == (vector["pin"] is None)


def test_plan_pins_a_literal_in_its_canonical_form_and_family() -> None:
    assert plan("[2001:DB8::0:1]", "auto") == Pin(("2001:db8::1",), 6)
    assert plan("::ffff:203.0.113.7", "auto") == Pin(("203.0.113.7",), 4)
    assert plan("fe80::1%eth0", "ipv6") == Pin(("fe80::1%eth0",), 6)


def test_plan_leaves_a_hostname_under_auto_to_the_system() -> None:
    assert plan(HOST, "auto") == Pin((HOST,), None)


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "010.1.1.1"])
def test_plan_takes_a_legacy_numeric_form_for_a_name_and_not_for_a_literal(host: str) -> None:
    assert plan(host, "ipv4") == Query(host, 4)


def test_plan_refuses_a_contradicting_literal() -> None:
    assert plan("203.0.113.7", "ipv6") == Refusal(
        Reason.LITERAL_CONTRADICTION,
        "Proxy family directive ipv6 contradicts IPv4 literal host",
        family="ipv6",
        host="203.0.113.7",
    )
    refusal = plan("::ffff:203.0.113.7", "ipv6")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.LITERAL_CONTRADICTION


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "::ffff:0.0.0.0", "::%eth0"])
def test_plan_refuses_the_unspecified_address_which_would_be_this_machine(host: str) -> None:
    refusal = plan(host, "auto")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.LITERAL_CONTRADICTION
    assert "unspecified" in refusal.detail


HINT = "; pinned names are looked up without the search list of resolv.conf: write the full name"


@pytest.mark.parametrize(
    ("answer", "hinted"),
    [
        (DnsAnswer((), 2, "failure", "the name does not exist (NXDOMAIN)"), True),
        (DnsAnswer((), 2, "no_record"), True),
        (DnsAnswer(("::ffff:203.0.113.7",), 2, "records"), True),
        (DnsAnswer((), 2, "timeout", "timed out after 3000 ms"), False),
        (DnsAnswer((), 2, "no_record", from_hosts=True), False),
    ],
    ids=str,
)
def test_a_name_without_a_dot_comes_with_what_to_do(answer: DnsAnswer, hinted: bool) -> None:
    refusal = judge(Query("proxy", 6), answer)
    assert isinstance(refusal, Refusal)
    assert refusal.detail.endswith(HINT) == hinted
    dotted = judge(Query("proxy.default", 6), answer)
    assert isinstance(dotted, Refusal)
    assert HINT not in dotted.detail


@pytest.mark.parametrize(
    "answer", [DnsAnswer((), 2, "no_record"), DnsAnswer(("::",), 2, "records")]
)
@pytest.mark.parametrize("party", ["Proxy", "Target"])
def test_a_refusal_says_whose_host_it_is(answer: DnsAnswer, party: Party) -> None:
    query = plan(HOST, "ipv6", party)
    assert isinstance(query, Query)
    refusal = judge(query, answer)
    assert isinstance(refusal, Refusal)
    assert refusal.detail == (
        f"[ProxyFamily] {party} host {HOST} has no IPv6 (AAAA) record; "
        "refusing IPv6-only egress (fail-closed)"
    )
    contradiction = plan("203.0.113.7", "ipv6", party)
    assert isinstance(contradiction, Refusal)
    assert contradiction.detail == f"{party} family directive ipv6 contradicts IPv4 literal host"


TRANSITIONAL = ["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"]
"""NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380)."""


@pytest.mark.parametrize("prefix", TRANSITIONAL)
def test_an_address_that_leads_to_ipv4_behind_a_gateway_is_ipv6(prefix: str) -> None:
    network = ipaddress.IPv6Network(prefix)
    for address in (network[1], network[0xCB007107], network[-1]):
        answer = DnsAnswer((str(address),), 60, "records")
        assert judge(Query(HOST, 6), answer) == Pin((str(address),), 6, 60, 0.0)
        assert isinstance(judge(Query(HOST, 4), answer), Refusal)
        assert plan(str(address), "auto") == Pin((str(address),), 6)


def test_judge_keeps_the_order_and_what_the_answer_says_of_itself() -> None:
    answer = DnsAnswer(("2001:db8::2", "2001:db8::1"), 17, "records", elapsed_ms=4.5)
    assert judge(Query(HOST, 6), answer) == Pin(("2001:db8::2", "2001:db8::1"), 6, 17, 4.5)


def test_judge_drops_what_is_not_of_the_family_or_cannot_be_dialled() -> None:
    addresses = ("::", "::ffff:203.0.113.7", "203.0.113.7", "2001:DB8::1", "2001:db8::1", "?")
    answer = DnsAnswer(addresses, 60, "records")
    assert judge(Query(HOST, 6), answer) == Pin(("2001:db8::1",), 6, 60, 0.0)
    answer = DnsAnswer(("0.0.0.0", "2001:db8::1", "203.0.113.7"), 60, "records")
    assert judge(Query(HOST, 4), answer) == Pin(("203.0.113.7",), 4, 60, 0.0)


@pytest.mark.parametrize(
    ("family", "answer", "reason", "detail"),
    [
        (
            6,
            DnsAnswer((), 30, "no_record"),
            Reason.NO_RECORD,
            f"[ProxyFamily] Proxy host {HOST} has no IPv6 (AAAA) record; "
            "refusing IPv6-only egress (fail-closed)",
        ),
        (
            4,
            DnsAnswer(("0.0.0.0",), 60, "records"),
            Reason.NO_RECORD,
            f"[ProxyFamily] Proxy host {HOST} has no IPv4 (A) record; "
            "refusing IPv4-only egress (fail-closed)",
        ),
        (
            6,
            DnsAnswer(("::ffff:203.0.113.7", "::ffff:203.0.113.8"), 60, "records"),
            Reason.MAPPED_ADDRESS,
            f"[ProxyFamily] Proxy host {HOST} has only IPv4-mapped addresses in its IPv6 (AAAA) "
            "record; refusing IPv6-only egress (fail-closed)",
        ),
        (
            6,
            DnsAnswer(("203.0.113.7",), 60, "records"),
            Reason.NO_RECORD,
            f"[ProxyFamily] Proxy host {HOST} has no IPv6 (AAAA) record; "
            "refusing IPv6-only egress (fail-closed)",
        ),
        (
            6,
            DnsAnswer((), 2, "failure", "SERVFAIL"),
            Reason.DNS_FAILURE,
            f"[ProxyFamily] DNS resolution failed for {HOST}; "
            "refusing to egress (fail-closed): SERVFAIL",
        ),
        (
            4,
            DnsAnswer((), 2, "timeout", "timed out after 3000 ms"),
            Reason.DNS_TIMEOUT,
            f"[ProxyFamily] DNS resolution failed for {HOST}; "
            "refusing to egress (fail-closed): timed out after 3000 ms",
        ),
    ],
)
def test_judge_refuses_with_the_texts_of_the_contract(
    family: FamilyNumber, answer: DnsAnswer, reason: Reason, detail: str
) -> None:
    directive = "ipv4" if family == 4 else "ipv6"
    refusal = Refusal(reason, detail, family=directive, host=HOST)  # type: ignore[arg-type]
    assert judge(Query(HOST, family), answer) == refusal


addresses = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=4).map("::ffff:{}".format),
    st.sampled_from(["::", "0.0.0.0", "::ffff:0.0.0.0", "", "127.1", "proxy.example"]),
    st.text(),
)


@given(st.sampled_from([4, 6]), st.lists(addresses))
def test_judge_never_pins_an_address_of_another_family(
    family: FamilyNumber, received: list[str]
) -> None:
    outcome = judge(Query(HOST, family), DnsAnswer(tuple(received), 60, "records"))
    if isinstance(outcome, Pin):
        assert outcome.addresses
        assert outcome.family == family
        for address in map(ipaddress.ip_address, outcome.addresses):
            assert address.version == family
            assert not address.is_unspecified
            assert getattr(address, "ipv4_mapped", None) is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (DnsAnswer((), 0.0, "failure", "no such name"), "dns_failed"),
        (DnsAnswer((), 0.0, "no_record"), "dns_no_record"),
        (DnsAnswer(("::ffff:192.0.2.1",), 0.0, "records"), "dns_only_mapped"),
    ],
)
def test_each_refusal_of_dns_can_be_said_in_another_language(answer: DnsAnswer, code: str) -> None:
    found = judge(Query("a.test", 6), answer)
    assert isinstance(found, Refusal)
    assert isinstance(found.detail, Sentence)
    inner = found.detail.params["what"]
    assert isinstance(inner, Sentence)
    assert inner.code == code
