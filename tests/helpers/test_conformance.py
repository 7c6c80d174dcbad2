from pathlib import Path

import pytest

from tests.helpers import conformance

OWN = Path(conformance.__file__).parents[1] / "data"


@pytest.mark.parametrize(
    ("shared", "own", "pattern"),
    [("conformance", OWN, "*.json"), ("cases/resolv", OWN / "resolv", "*.conf")],
)
def test_own_copy_is_the_shared_data(shared: str, own: Path, pattern: str) -> None:
    folder = conformance._SHARED / shared
    if not folder.is_dir():
        pytest.skip("no shared data beside the checkout")
    files = {file.name: file.read_bytes() for file in folder.glob(pattern)}
    assert files
    assert {name: (own / name).read_bytes() for name in files} == files
