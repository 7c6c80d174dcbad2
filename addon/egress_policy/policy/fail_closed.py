"""The end of every refusal's sentence: the flow does not leave another way instead."""

from ..sentence import Sentence


def fail_closed(why: str) -> Sentence:
    """The sentence of a refusal, made of the sentence that says why."""
    return Sentence("fail_closed", "{why}; refusing to egress (fail-closed)", why=why)


def refusing(why: str) -> Sentence:
    """The same where it says nothing of another way: nothing could take it."""
    return Sentence("refusing", "{why}; refusing to egress", why=why)


def reason_in(detail: str) -> str:
    """What ``fail_closed`` was made of; other texts as they are."""
    if isinstance(detail, Sentence) and detail.code == "fail_closed":
        return text_of(detail, "why")
    return detail


def text_of(sentence: Sentence, name: str) -> str:
    """A parameter that is a text, or again a sentence."""
    value = sentence.params[name]
    return value if isinstance(value, str) else str(value)
