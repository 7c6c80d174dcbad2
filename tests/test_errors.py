import pytest

from egress_policy.errors import Code, EgressError, InvalidEntry, Reason, Unavailable

REASONS = {
    "PROXY_FAMILY_UNAVAILABLE": "no_record dns_failure dns_timeout literal_contradiction "
    "mapped_address peer_mismatch",
    "PROXY_UNREACHABLE": "connect_refused connect_timeout circuit_open handshake_failed "
    "limit_reached proxy_auth",
    "PROXY_ASSIGNED_UNAVAILABLE": "disabled deleted exit_mismatch exit_unverified "
    "pool_empty socks5_disabled",
    "EGRESS_REFUSED": "rule default udp_over_proxy loop",
    "EGRESS_INTERNAL": "error",
}


def test_codes_and_their_reasons_are_those_of_the_contract() -> None:
    by_code = {code: {r for r in Reason if r.code is code} for code in Code}
    assert by_code == {code: set(words.split()) for code, words in REASONS.items()}


@pytest.mark.parametrize("reason", Reason)
def test_error_carries_plain_words(reason: Reason) -> None:
    error = Unavailable(reason, "a sentence")
    assert isinstance(error, EgressError)
    assert (str(error), error.status) == ("a sentence", 503)
    assert (type(error.code), type(error.reason)) == (str, str)
    assert (error.code, error.reason) == (reason.code, reason)


def test_invalid_entry_is_an_egress_error_and_a_value_error() -> None:
    error = InvalidEntry("bad host", "host")
    assert isinstance(error, EgressError)
    assert isinstance(error, ValueError)
    assert (str(error), error.field, error.status) == ("bad host", "host", 400)
    assert (error.code, error.reason) == ("INVALID_ENTRY", "invalid_entry")
