"""Filter expressions whose value is their text, for code that takes a ``FilterCompiler``."""

from dataclasses import dataclass

from egress_policy.model.decision import Target

VERDICTS: dict[str, bool | None] = {"yes": True, "no": False, "later": None}


@dataclass(frozen=True)
class WordFilter:
    expression: str
    needs_request: bool

    def __call__(self, target: Target) -> bool | None:
        return VERDICTS[self.expression]


def compile_word(expression: str) -> WordFilter:
    """``yes``, ``no`` or ``later`` (needs the request); ``ValueError`` for anything else."""
    if expression not in VERDICTS:
        raise ValueError(f"no such word: {expression}")
    return WordFilter(expression, VERDICTS[expression] is None)
