"""Sentences: English text that knows its code and parameters."""

import copy
import json
import pickle

from egress_policy.errors import EgressError, InvalidEntry
from egress_policy.sentence import Sentence
from tests.helpers.sentences import sentences

TAKEN = Sentence("taken", "{name!r} is used twice", name="exit")


def test_sentence_is_its_english_text() -> None:
    assert TAKEN == "'exit' is used twice"
    assert json.dumps({"why": TAKEN}) == '{"why": "\'exit\' is used twice"}'
    assert (TAKEN.code, TAKEN.params) == ("taken", {"name": "exit"})


def test_sentence_without_parameters_is_its_template() -> None:
    assert Sentence("member", "write {name: …}") == "write {name: …}"


def test_sentence_holds_others() -> None:
    both = Sentence("members", "none of ({why}) works", why=[TAKEN, "gone"])
    assert both == "none of ('exit' is used twice, gone) works"
    assert both.params["why"] == [TAKEN, "gone"]


def test_parameter_with_braces_fills_nothing() -> None:
    assert Sentence("is", "{name} is {why}", name="{why}", why="here") == "{why} is here"


def test_sentence_survives_a_copy() -> None:
    for again in (copy.deepcopy(TAKEN), pickle.loads(pickle.dumps(TAKEN))):
        assert (again, again.code, again.params) == (TAKEN, TAKEN.code, TAKEN.params)


def test_error_keeps_the_sentence_that_str_makes_plain() -> None:
    error = InvalidEntry(TAKEN, "name")
    assert type(str(error)) is str
    assert error.text is TAKEN
    assert EgressError("plain").text == "plain"
    assert EgressError().text == ""


def test_a_code_means_one_sentence() -> None:
    found = list(sentences())
    assert len(found) > 200
    by_code = {one.code: one for one in found}
    assert [one for one in found if by_code[one.code] != one] == []
