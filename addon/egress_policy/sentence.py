"""Sentences for people that can be said in another language: a code, and what stands in the gaps.

A ``Sentence`` is the English text. Faces that show only text need not know more. The API adds code
and parameters, by which the page finds its own words (``api/messages/server``).
This module imports nothing of the package.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self, SupportsIndex

Parameter = str | int | float | Sequence[str]


class Sentence(str):
    """A text, the stable ``code`` of its ``template``, and the ``params`` that fill it.

    ``Sentence("taken", "{name!r} is used twice", name="exit")`` is ``'exit' is used twice``. A
    parameter may be a sentence too, or several, which are joined by commas. Without parameters the
    template is the text as it stands.
    """

    __slots__ = ("code", "params", "template")
    code: str
    template: str
    params: Mapping[str, Parameter]

    def __new__(cls, code: str, template: str, /, **params: Parameter) -> Self:
        filled = {name: _joined(value) for name, value in params.items()}
        made = super().__new__(cls, template.format(**filled) if params else template)
        made.code, made.template, made.params = code, template, params
        return made

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Any, ...]:
        return _again, (self.code, self.template, dict(self.params))


def _again(code: str, template: str, params: dict[str, Parameter]) -> Sentence:
    return Sentence(code, template, **params)


def _joined(value: Parameter) -> str | int | float:
    return value if isinstance(value, str | int | float) else ", ".join(value)
