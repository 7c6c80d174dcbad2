"""Problems carry what their sentences were made of."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from egress_policy.api.problems import problem_of
from egress_policy.errors import InvalidEntry, InvalidFields, NotFound
from egress_policy.management.views import Said, Spoken
from egress_policy.registry.validation import require_text
from egress_policy.sentence import Sentence


def body(error: Exception) -> dict[str, Any]:
    shown: dict[str, Any] = problem_of(error)[0].model_dump(mode="json", exclude_none=True)
    return shown


def test_problem_has_the_finer_code_and_the_parameters() -> None:
    shown = body(NotFound(Sentence("no_such_entry", "There is no such {noun}", noun="rule")))
    assert shown["code"] == "NOT_FOUND"
    assert shown["detail"] == "There is no such rule"
    said = {"text": "There is no such rule", "code": "no_such_entry", "params": {"noun": "rule"}}
    assert shown["said"] == {"detail": said}


def test_plain_text_has_no_code() -> None:
    assert "said" not in body(NotFound("There is no such thing"))


def test_field_errors_have_their_own() -> None:
    with pytest.raises(InvalidEntry) as raised:
        require_text("", "name", 120)
    (error,) = body(raised.value)["errors"]
    assert error["field"] == "name"
    said = error["said"]["message"]
    assert (said["code"], said["params"]["field"]) == ("field_fault", "name")
    assert said["params"]["fault"]["code"] == "text_to_limit"
    assert said["params"]["fault"]["params"] == {"limit": 120}


def test_every_fault_of_an_entry_is_told() -> None:
    faults = (("a", Sentence("missing", "is required")), ("b", "plain"))
    errors = body(InvalidFields(faults))["errors"]
    assert [one["message"] for one in errors] == ["is required", "plain"]
    assert [one.get("said", {}).get("message", {}).get("code") for one in errors] == [
        "missing",
        None,
    ]


def test_body_that_does_not_fit_is_told_by_code() -> None:
    class Body(BaseModel):
        count: int

    with pytest.raises(ValidationError) as raised:
        Body.model_validate({"count": "many"})
    (error,) = body(raised.value)["errors"]
    assert error["said"]["message"]["code"] == "int_type"


def test_view_keeps_what_its_sentences_were_made_of() -> None:
    class Row(Spoken):
        why: str = ""
        note: str = ""

    row = Row(why=Sentence("pair", "{both}", both=[Sentence("one", "1"), "2"]), note="plain")
    (said,) = row.model_dump(mode="json")["said"].values()
    assert said["params"] == {"both": [{"text": "1", "code": "one", "params": {}}, "2"]}
    assert Row.model_validate_json(row.model_dump_json()) == row
    assert Row(note="plain").model_dump() == {"why": "", "note": "plain"}


def test_view_made_of_another_keeps_both() -> None:
    class Row(Spoken):
        why: str = ""

    class More(Row):
        note: str = ""

    row = Row(why=Sentence("one", "1"))
    more = More(**dict(row), note=Sentence("two", "2"))
    assert more.said == {
        "why": Said(text="1", code="one"),
        "note": Said(text="2", code="two"),
    }
