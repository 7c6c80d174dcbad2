"""Settings of the registry: what each of them takes."""

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.model.family_urls import FamilyUrls, echo_of
from egress_policy.registry.registry import Registry
from tests.helpers.registry import KEY, edits


def test_test_url_is_kept_as_stated_and_cleared_by_none() -> None:
    registry = Registry.open(":memory:", KEY)
    stated = {"test_url": "https://Echo.example.com/ip?json"}
    assert edits(registry).settings.put(stated) == stated
    assert edits(registry).settings.put({"default": "refuse"}) == {**stated, "default": "refuse"}
    assert registry.load().settings["test_url"] == stated["test_url"]
    assert edits(registry).settings.put({"test_url": None}) == {"default": "refuse"}
    registry.close()


@pytest.mark.parametrize("value", ["", "ftp://a.example/", "http://u:p@a.example/", 7, True])
def test_test_url_that_cannot_be_asked_for_changes_nothing(value: object) -> None:
    registry = Registry.open(":memory:", KEY)
    with pytest.raises(InvalidEntry) as caught:
        edits(registry).settings.put({"default": "refuse", "test_url": value})
    assert caught.value.field == "test_url"
    assert registry.load().settings == {}
    registry.close()


ECHO = {"ipv4": "https://a.example/", "ipv6": "http://[2001:db8::1]:8088/"}


def test_echo_is_kept_whole_and_cleared_by_none() -> None:
    registry = Registry.open(":memory:", KEY)
    put = edits(registry).settings.put
    assert echo_of(put({"echo": ECHO})) == FamilyUrls.model_validate(ECHO)
    assert echo_of(put({"echo": {"ipv4": ECHO["ipv4"]}})) == FamilyUrls(ipv4=ECHO["ipv4"])
    assert echo_of(put({"test_url": "http://b.example/"})) == FamilyUrls(ipv4=ECHO["ipv4"])
    assert put({"echo": None}) == {"test_url": "http://b.example/"}
    registry.close()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("https://a.example/", "echo"),
        ([], "echo"),
        ({}, "echo"),
        ({"ipv4": None}, "echo"),
        ({"ipv4": "ftp://a.example/"}, "echo.ipv4"),
        ({"ipv4": 7}, "echo.ipv4"),
        ({"ipv5": "http://a.example/"}, "echo.ipv5"),
    ],
)
def test_echo_that_cannot_be_asked_changes_nothing(value: object, field: str) -> None:
    registry = Registry.open(":memory:", KEY)
    with pytest.raises(InvalidEntry) as caught:
        edits(registry).settings.put({"default": "refuse", "echo": value})
    assert caught.value.field == field
    assert registry.load().settings == {}
    registry.close()
