"""A clock that a test moves on, for everything that takes one as a parameter."""


class Clock:
    """Seconds; ``now`` is changed by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
