"""Which places are this process itself: no flow may reach one, by whatever name or way. Pure.

What listens changes while the process runs, and so do the addresses of the machine: both are asked
for at each question, and asked of callables that are given.
"""

from collections.abc import Callable, Iterable

Place = tuple[str, int]
"""An IP literal and a port."""


def _none() -> Iterable[Place]:
    return ()


class Listeners:
    """The places where this process listens.

    ``of_api`` are those of the management API. ``of_proxy`` says which are mitmproxy's own, and
    ``is_own_host`` whether a canonical host is this machine, as far as can be told without asking
    anybody.
    """

    def __init__(self, is_own_host: Callable[[str], bool]) -> None:
        self.is_own_host = is_own_host
        self.of_api: tuple[Place, ...] = ()
        self.of_proxy: Callable[[], Iterable[Place]] = _none

    def at_port(self, port: int) -> bool:
        """Whether anything listens at this port of the machine, at any of its addresses.

        Which one counts no further: an exit, a redirection or a second address may lead there.
        """
        return any(port == own for _, own, *_ in (*self.of_api, *self.of_proxy()))

    def reached_by(self, host: str, port: int) -> bool:
        """Whether a canonical host and a port lead to a listener."""
        return self.at_port(port) and self.is_own_host(host)
