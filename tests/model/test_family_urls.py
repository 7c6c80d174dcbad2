import pytest
from pydantic import ValidationError

from egress_policy.model.family_urls import FamilyUrls, echo_of


def test_either_family_may_be_left_out() -> None:
    urls = FamilyUrls(ipv6="https://[2001:db8::1]:8088/")
    assert (urls.ipv4, urls.ipv6) == (None, "https://[2001:db8::1]:8088/")


@pytest.mark.parametrize(
    "fields",
    [{}, {"ipv4": None}, {"ipv4": ""}, {"ipv4": "ws://a.example/"}, {"ipv6": "http://u:p@a.example/"},
     {"ipv5": "http://a.example/"}],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_asked_for_is_rejected(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FamilyUrls.model_validate(fields)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ipv4": 7}', '{"ipv4": "nowhere"}'])
def test_setting_that_was_broken_by_hand_asks_nobody(text: str) -> None:
    assert echo_of({"echo": text}) is None


def test_setting_is_read() -> None:
    assert echo_of({}) is None
    assert echo_of({"echo": '{"ipv4": "http://a.example/"}'}) == FamilyUrls(
        ipv4="http://a.example/"
    )
