import os
from pathlib import Path

import pytest

from egress_policy.files.stamp import stamp_of


def test_each_version_has_its_own_stamp(tmp_path: Path) -> None:
    path, new = tmp_path / "file", tmp_path / "new"
    assert stamp_of(path) is None
    path.write_text("one")
    first = stamp_of(path)
    assert first
    assert first == stamp_of(path)
    new.write_text("two")
    os.utime(new, ns=(first[0], first[0]))
    new.rename(path)
    assert stamp_of(path) not in (None, first)
    assert stamp_of(path / "below") is None


def test_what_cannot_be_looked_at_raises(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        stamp_of(tmp_path / "loop")
