"""Which part of memory the collector of cycles still visits."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from egress_policy.management.collector import uncollected
from tests.helpers.management import managed
from tests.helpers.scene import still


@pytest.fixture(autouse=True)
def _nothing_frozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("registry", ["", None])
async def test_start_takes_memory_from_the_collector_and_an_edit_takes_none(
    tmp_path: Path, registry: str | None
) -> None:
    entry = {"name": "one", "host": "192.0.2.1"}
    async with managed(tmp_path, registry=registry, policy={"proxies": [entry]}) as management:
        taken = gc.get_freeze_count()
        assert taken > 1000  # what was imported until now is more
        file = tmp_path / "policy.yaml"
        file.write_text(json.dumps({"version": 1, "proxies": [{**entry, "name": "two"}]}))
        still(file)
        assert await management.in_force.reload() == ""
        assert "two" in management.router.snapshot.proxies
        assert gc.get_freeze_count() <= taken


def test_what_fails_leaves_everything_to_the_collector() -> None:
    def fail() -> None:
        with uncollected():
            assert not gc.isenabled()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
