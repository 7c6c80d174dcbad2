"""Settings of the registry: what each of them takes."""

import pytest

from egress_policy.errors import InvalidEntry
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
