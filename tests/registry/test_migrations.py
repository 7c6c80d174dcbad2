from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import egress_policy.registry
from egress_policy.registry.registry import Registry
from egress_policy.registry.schema import VERSIONS
from tests.helpers.registry import KEY
from tests.registry.migration_contract import MigrationContract


class TestSqlite(MigrationContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "100%.db")


def test_versions_of_the_schema_are_those_of_the_migrations() -> None:
    config = Config()
    folder = Path(egress_policy.registry.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in scripts)[::-1] == VERSIONS


def test_all_who_open_a_new_registry_at_once_get_the_same(tmp_path: Path) -> None:
    place = str(tmp_path / "egress.db")
    with ThreadPoolExecutor(4) as pool:
        registries = list(pool.map(lambda _: Registry.open(place, KEY), range(4)))
    assert {registry.revision() for registry in registries} == {0}
    for registry in registries:
        registry.close()
