"""Addons are found by their class, and loaded even if their name is taken."""

from types import SimpleNamespace

import pytest
from mitmproxy.exceptions import AddonManagerError

from egress_policy.proxy.addons.named import Named, find
from tests.helpers.playbook import addons


class One(Named):
    pass


class Other(Named):
    pass


def test_has_the_name_of_its_class() -> None:
    with addons(one := One()) as context:
        assert context.master.addons.get("one") is one
        assert find(One) is one
        assert find(Other) is None


def test_is_loaded_and_found_beside_a_stranger_of_its_name() -> None:
    with addons(stranger := SimpleNamespace(name="one")) as context:
        assert find(One) is None
        context.master.addons.add(one := One())
        assert context.master.addons.get("one") is stranger
        assert find(One) is one
        assert find(SimpleNamespace) is stranger
        context.master.addons.remove(stranger)
        context.master.addons.remove(one)  # its name is still the one it was added by
        assert find(One) is None


def test_is_not_loaded_twice() -> None:
    with (
        addons(One()) as context,
        pytest.raises(AddonManagerError, match="already exists"),
    ):
        context.master.addons.add(One())
