"""The lowest versions are those in pyproject.toml, and every place names the same ones."""

import re
import tomllib
from typing import Any

import pytest

from tests.lowest.__main__ import PYPROJECT, lowest

PROJECT = tomllib.loads(PYPROJECT.read_text("utf-8"))


def project(*dependencies: str) -> dict[str, Any]:
    return {"project": {"dependencies": dependencies}, "dependency-groups": {"dev": []}}


def test_a_bound_becomes_a_pin() -> None:
    stated = project("one>=1.2", "two.three>=4,<5", "four[five,six]>=7.8.9,<8")
    assert [*lowest(stated)] == ["one==1.2", "two.three==4", "four==7.8.9"]


@pytest.mark.parametrize("text", ["one", "one==1", "one<2", "one~=1.0", "one>1"])
def test_a_requirement_without_a_lowest_version_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{re.escape(text)}' states no lowest version"):
        list(lowest(project(text)))


def test_every_requirement_of_the_project_has_one() -> None:
    found = [*lowest(PROJECT)]
    assert len(found) == len(set(found)) > 20


def test_extras_have_the_bounds_of_the_rest() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    everywhere = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    bounds = {re.split(r"[\[>]", text)[0]: text.partition(">=")[2] for text in everywhere}
    for extra in ("metrics", "postgres", "doh"):
        (text,) = extras[extra]
        assert text.partition(">=")[2] == bounds[re.split(r"[\[>]", text)[0]]
