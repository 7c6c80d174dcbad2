"""What all tests share: settings of Hypothesis, and costly steps that are done once a process."""

import functools
import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import find, settings, strategies

from egress_policy.registry import secrets, upgrade
from tests.helpers.registry import made_once

# Images of containers often forbid bytecode. Each worker would then compile all tests, which takes
# it 14 s, and each mitmdump that a test starts would compile the addon.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No deadline an example: machines are busy, and time is no property here.
settings.register_profile("egress", deadline=None)
settings.load_profile("egress")


def pytest_collection_finish() -> None:
    """Leave out of each later collection what stays to the end: modules and thousands of tests."""
    # Hypothesis asks the collector for what holds Python's random numbers when it draws first.
    find(strategies.just(True), bool)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _derived_once() -> Iterator[None]:
    """Derive each key once. It is made to take long, for every registry that a test opens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "_derive", functools.cache(secrets._derive))
        yield


@pytest.fixture(scope="module", autouse=True)
def _migrated_once() -> Iterator[None]:
    """Make new registries as the migrations made the first. `tests/registry` runs them each
    time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrade, "upgrade", made_once(upgrade.upgrade))
        yield
