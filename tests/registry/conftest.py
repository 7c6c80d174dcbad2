import pytest


@pytest.fixture(scope="module", autouse=True)
def _migrated_once() -> None:
    """Here the migrations are what is tested."""
