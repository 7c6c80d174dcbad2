"""Views that keep what their sentences were made of."""

from egress_policy.management.views import Spoken
from egress_policy.sentence import Sentence

FAR = Sentence("far", "{name} is far", name="exit")


class Some(Spoken):
    text: str
    texts: tuple[str, ...]


def test_each_sentence_of_a_view_can_be_said_in_another_language() -> None:
    shown = Some(text=FAR, texts=("plain", FAR)).model_dump(mode="json")
    assert (shown["text"], shown["texts"]) == ("exit is far", ["plain", "exit is far"])
    kept = {"text": "exit is far", "code": "far", "params": {"name": "exit"}}
    assert shown["said"] == {"text": kept, "texts.1": kept}


def test_a_view_without_sentences_has_no_more_than_its_fields() -> None:
    shown = Some(text="plain", texts=("plain",)).model_dump(mode="json")
    assert shown == {"text": "plain", "texts": ["plain"]}
