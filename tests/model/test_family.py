from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.model.family import (
    FamilyNumber,
    ProxyFamily,
    family_label,
    family_name,
    family_number,
    holds_family,
    parse_proxy_family,
    record_label,
    require_proxy_family,
)
from tests.helpers.conformance import load


@pytest.mark.parametrize("vector", load("family_normaliser"), ids=lambda v: repr(v["in"]))
def test_lenient_reader_follows_the_vectors(vector: dict[str, Any]) -> None:
    assert parse_proxy_family(vector["in"]) == vector["out"]


@pytest.mark.parametrize("vector", load("family_strict"), ids=lambda v: repr(v["in"]))
def test_strict_reader_follows_the_vectors(vector: dict[str, Any]) -> None:
    if "error" in vector:
        with pytest.raises(InvalidEntry) as caught:
            require_proxy_family(vector["in"])
        assert vector["error"].lower() in str(caught.value).lower()
        assert caught.value.field == "family"
    else:
        assert require_proxy_family(vector["in"]) == vector["out"]


@pytest.mark.parametrize(("family", "number"), [("auto", None), ("ipv4", 4), ("ipv6", 6)])
def test_number_of_a_directive(family: ProxyFamily, number: FamilyNumber | None) -> None:
    assert family_number(family) == number


@pytest.mark.parametrize("before", ["", "a", "a b "])
@pytest.mark.parametrize(
    "end", ["?family=ipv6", "#family=", "|IPv4", ":ipv6", ",ipv6", "&Family=ipv4 x"]
)
def test_directive_in_a_text_is_found(before: str, end: str) -> None:
    assert holds_family(before + end)
    assert holds_family(end[1:])


@pytest.mark.parametrize(
    "text",
    ["p,family=ipv6", "p (ipv6)", "p [ipv6]", "p@ipv6", "p/ipv6", "p,ipv6,", "p?family =ipv6"],
)
def test_family_word_after_any_separator_counts_as_a_pin(text: str) -> None:
    assert holds_family(text)


@pytest.mark.parametrize(
    "text", ["", "no ipv6", "works, ipv6", "ipv6 only", "de-ipv6", "my family", "family:a"]
)
def test_text_about_families_holds_none(text: str) -> None:
    assert not holds_family(text)


@pytest.mark.parametrize(("number", "label", "record"), [(4, "IPv4", "A"), (6, "IPv6", "AAAA")])
def test_words_for_people(number: FamilyNumber, label: str, record: str) -> None:
    assert family_label(number) == label
    assert record_label(number) == record


def test_only_what_pins_has_a_name() -> None:
    assert [family_name(one) for one in ("ipv4", "ipv6", "auto", "", None)] == [
        *("IPv4", "IPv6"),
        *("", "", ""),
    ]
