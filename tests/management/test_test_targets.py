"""A person's URL alone, or one for each family in which a proxy may leave."""

import json
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management.test_targets import targets_of
from egress_policy.model.proxy import Proxy

V4, V6 = "api.ipify.org", "api6.ipify.org"
ECHO = {"echo": json.dumps({"ipv4": "https://echo.example/ip"})}


@pytest.mark.parametrize(
    ("fields", "settings", "hosts"),
    [
        ({}, {}, [V4, V6]),
        ({"family": "ipv4"}, {}, [V4, V6]),
        ({"family": "ipv6"}, {}, [V6, V4]),
        ({"target_family": "ipv6"}, {}, [V6]),
        ({"exit_family": "ipv4", "family": "ipv6"}, {}, [V4]),
        ({"target_family": "ipv6", "exit_family": "ipv4"}, {}, [V6]),
        ({}, ECHO, ["echo.example", V6]),
        ({"target_family": "ipv6"}, ECHO, [V6]),
        ({"target_family": "ipv6"}, {**ECHO, "test_url": "http://mine.example/"}, ["mine.example"]),
        ({}, {"echo": "nonsense"}, [V4, V6]),
    ],
)
def test_targets_are_those_of_the_families(
    fields: dict[str, Any], settings: dict[str, str], hosts: list[str]
) -> None:
    proxy = Proxy(name="p", host="proxy.example", **fields)
    assert [url.host for url in targets_of(proxy, settings)] == hosts


def test_url_that_was_edited_by_hand_is_no_target() -> None:
    with pytest.raises(InvalidEntry):
        targets_of(Proxy(name="p", host="proxy.example"), {"test_url": "ftp://x.example/"})
