"""A clock that a test moves, for everything that takes a clock as a parameter."""


class Clock:
    """A clock in seconds. The test changes ``now``."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
