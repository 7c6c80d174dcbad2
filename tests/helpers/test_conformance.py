from pathlib import Path

import pytest

from tests.helpers import conformance


def test_own_copy_is_the_shared_data() -> None:
    own = Path(conformance.__file__).parents[1] / "data"
    if not conformance._SHARED.is_dir():
        pytest.skip("no shared data beside the checkout")
    shared = {file.name: file.read_bytes() for file in conformance._SHARED.glob("*.json")}
    assert {name: (own / name).read_bytes() for name in shared} == shared
