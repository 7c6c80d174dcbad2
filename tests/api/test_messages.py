"""The labels of the page: the same keys in every language, all used, none missing."""

import json
import re
from pathlib import Path

import pytest

from egress_policy import api

FOLDER = Path(api.__file__).parent
LANGUAGES = ("en", "pt-BR", "zh-CN", "es", "de")
SEED = ("labelFamily", "familyAuto", "familyIpv4", "familyIpv6", "familyHint")
# What a label's name is made of where it is used: t(`tab_${name}`).
PREFIXES = ("tab_", "use_", "from_")
# Names that data has: t(proxy.status).
BY_DATA = {"active", "inactive"}


def messages(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        (FOLDER / "messages" / f"{language}.json").read_text("utf-8")
    )
    return found


def used() -> set[str]:
    texts = [file.read_text("utf-8") for file in (FOLDER / "static").rglob("*.*")]
    text = "\n".join(texts)
    keys = {
        key for call in re.findall(r"\bt\(([^`]*?)\)", text) for key in re.findall(r'"(\w+)"', call)
    }
    keys |= set(re.findall(r'data-label="(\w+)"', text))
    keys |= set(re.findall(r'\b(?:sortable|ms)\("(\w+)"', text))
    return keys


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"{(\w+)}", text))


def test_files_are_these() -> None:
    names = sorted(file.name for file in (FOLDER / "messages").iterdir())
    assert names == sorted(f"{language}.json" for language in LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_the_same_things(language: str) -> None:
    english, other = messages("en"), messages(language)
    assert list(other) == list(english)
    for key, text in other.items():
        assert text.strip(), key
        assert placeholders(text) == placeholders(english[key]), key


def test_labels_of_the_seed_page_are_there() -> None:
    english = messages("en")
    assert set(SEED) <= set(english)
    assert english["familyAuto"] == "Auto (dual-stack)"
    assert (english["familyIpv4"], english["familyIpv6"]) == ("IPv4 only", "IPv6 only")


def test_every_label_that_is_used_is_there_and_none_is_left_over() -> None:
    known = set(messages("en"))
    assert used() - known == set()
    left_over = {key for key in known - used() - BY_DATA if not key.startswith(PREFIXES)}
    assert left_over == set()
