"""The labels of the page: the same keys in every language, all used, none missing."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from egress_policy import api
from egress_policy.api.resources.assignments import Assign
from egress_policy.errors import Reason
from egress_policy.management.import_report import ImportLine
from egress_policy.management.one_line import Cut
from egress_policy.management.states import STATES
from egress_policy.model.pool import Strategy
from egress_policy.policy.exits import Source, Verdict
from tests.helpers.sentences import sentences

FOLDER = Path(api.__file__).parent
LANGUAGES = ("en", "pt-BR", "zh-CN", "es", "de")
OMNIROUTE = ("labelFamily", "familyAuto", "familyIpv4", "familyIpv6", "familyHint")
# What a label's name is made of where it is used: t(`tab_${name}`), word("reason", …).
PREFIXES = {
    *(
        "change",
        "cut",
        "error",
        "event",
        "exitSource",
        "exitVerdict",
        "from",
        "import",
        "kind",
        "origin",
        "reason",
    ),
    *("scope", "state", "sticky", "strategy", "tab", "use", "verdict"),
}
# Names that data has: t(proxy.status).
BY_DATA = {"active", "inactive"}
EXIT_EVENTS = ("exit-changed", "exit-contradicted", "exit-expected")
PLURALS = ("_one", "_other")


def messages(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        (FOLDER / "messages" / f"{language}.json").read_text("utf-8")
    )
    return found


def server_messages(language: str) -> dict[str, str]:
    """The words of the server's sentences."""
    found: dict[str, str] = json.loads(
        (FOLDER / "messages" / "server" / f"{language}.json").read_text("utf-8")
    )
    return found


def scripts() -> str:
    return "\n".join(file.read_text("utf-8") for file in (FOLDER / "static").rglob("*.*"))


def used() -> set[str]:
    """What ``t`` is called with and ``data-label`` names."""
    text = scripts()
    calls = re.findall(r"\bt\(([^`]*?)\)", text)
    keys = {key for call in calls for key in re.findall(r'"(\w+)"', call)}
    return keys | set(re.findall(r'data-label="(\w+)"', text))


def known() -> set[str]:
    """Without what a number adds to a label."""
    return {re.sub(f"({'|'.join(PLURALS)})$", "", key) for key in messages("en")}


def made_of(kind: str) -> set[str]:
    return {key.removeprefix(f"{kind}_") for key in messages("en") if key.startswith(f"{kind}_")}


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"{(\w+)}", text))


def test_files_are_these() -> None:
    for folder in ("messages", "messages/server"):
        names = sorted(file.name for file in (FOLDER / folder).glob("*.json"))
        assert names == sorted(f"{language}.json" for language in LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_the_same_things(language: str) -> None:
    english, other = messages("en"), messages(language)
    assert list(other) == list(english)
    for key, text in other.items():
        assert text.strip(), key
        assert placeholders(text) == placeholders(english[key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_what_the_server_says(language: str) -> None:
    known = {one.code: one.params for one in sentences()}
    said = server_messages(language)
    assert list(said) == sorted(said)
    # English is what the server says itself, unless the page calls things otherwise.
    assert known.keys() - said.keys() == set() or language == "en"
    assert said.keys() - known.keys() == set()
    for code, text in said.items():
        assert text.strip(), code
        assert set(placeholders(text)) <= known[code] | {"name", "label"}, code


def test_labels_of_omniroute_are_there() -> None:
    english = messages("en")
    assert set(OMNIROUTE) <= set(english)
    assert english["familyAuto"] == "Auto (dual-stack)"
    assert (english["familyIpv4"], english["familyIpv6"]) == ("IPv4 only", "IPv6 only")


def test_every_label_that_is_used_is_there_and_none_is_left_over() -> None:
    assert used() - known() == set()
    words = set(re.findall(r'"(\w+)"', scripts()))
    left_over = {key for key in known() - words - BY_DATA if key.partition("_")[0] not in PREFIXES}
    assert left_over == set()


def test_every_plural_has_both_forms() -> None:
    keys = set(messages("en"))
    for key in keys:
        for form in PLURALS:
            if key.endswith(form):
                assert {key.removesuffix(form) + other for other in PLURALS} <= keys


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("reason", {str(reason) for reason in Reason}),
        ("strategy", set(get_args(Strategy))),
        ("cut", set(get_args(Cut))),
        ("verdict", {"matched", "not matched", "needs the request"}),
        ("import", set(get_args(ImportLine.model_fields["outcome"].annotation))),
        ("scope", set(get_args(Assign.model_fields["scope"].annotation))),
        ("from", {"policy file", "registry", "option"}),
        ("use", {"proxy", "direct", "refuse"}),
        ("state", set(STATES)),
        ("exitVerdict", set(get_args(Verdict))),
        ("exitSource", set(get_args(Source))),
        ("event", {"opened", "limited", "closed", "reset", *EXIT_EVENTS}),
    ],
)
def test_every_word_of_the_api_has_a_label(kind: str, words: set[str]) -> None:
    assert made_of(kind) == {re.sub("[ -]", "_", word) for word in words}
