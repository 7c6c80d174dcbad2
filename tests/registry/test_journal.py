from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from egress_policy.registry.registry import Registry
from tests.helpers.registry import KEY
from tests.registry.journal_contract import JournalContract


class TestSqlite(JournalContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "egress.db")

    @pytest.fixture
    def registry(self, place: str) -> Iterator[Registry]:
        with closing(Registry.open(place, KEY)) as registry:
            yield registry
