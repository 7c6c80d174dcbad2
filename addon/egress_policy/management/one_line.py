"""One line that says which way a flow left, or why it did not: the same wherever a person looks.

    via v6-exit [2001:db8::1]:1080 IPv6, rule #1, 12 ms to the exit
    via home-2 of homes 192.0.2.2:1080 IPv4, rule #3, reused, after home-1:connect_refused
    direct 192.0.2.1:443 IPv4, default
    via v6-exit [2001:db8::1]:1080 IPv6, rule #1, reused, cut: the policy changed
    refused: no_record, rule #2 (v6-exit)
    refused, rule ads

It says nothing of exit addresses, which stand in no log.
"""

from typing import Final, Literal, NamedTuple, Protocol

from ..model.family import family_name
from ..model.host import url_host
from ..model.text import printable

_BY_POLICY: Final = ("rule", "default")
"""The reasons that the name of the rule tells already."""
_GLOBAL: Final = ":__global__"
"""Stands behind the scope in the label of the one global assignment."""


Cut = Literal["policy", "exit", "command", "client", "killed", "broken"]
"""Why a flow ended before its end: the policy or its exit, or a person, had it cut; its client left
or it was killed; or its answer broke off by itself."""
_CUT: Final[dict[str, str]] = {
    "policy": "the policy changed",
    "exit": "its exit is a wrong one",
    "command": "by egress.cut",
    "client": "its client left",
    "killed": "it was killed",
    "broken": "the answer broke off",
}


class Way(Protocol):
    """The entries ``egress.use`` and so on of a flow; ``None`` or empty where they are missing."""

    @property
    def use(self) -> str | None: ...
    @property
    def rule(self) -> str | None: ...
    @property
    def proxy(self) -> str | None: ...
    @property
    def pool(self) -> str | None: ...
    @property
    def tried(self) -> str | None: ...
    @property
    def address(self) -> str | None: ...
    @property
    def peer_family(self) -> str | None: ...
    @property
    def reused(self) -> bool | None: ...
    @property
    def connect_ms(self) -> float | None: ...
    @property
    def handshake_ms(self) -> float | None: ...
    @property
    def code(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def cut(self) -> str | None: ...


class OneLine(NamedTuple):
    """``head`` says the way, ``rest`` the details of it; ``str()`` is both."""

    head: str
    rest: str

    def __str__(self) -> str:
        return self.head + self.rest


def one_line(way: Way, port: int | None) -> OneLine | None:
    """The line of a flow whose egress was dialled at ``port``; ``None`` if no policy decided about
    it. Safe to show on a terminal."""
    if way.code or way.use == "refuse":
        head, rest = "refused", _refusal(way)
        if way.reason and way.reason not in _BY_POLICY:
            head = f"refused: {way.reason}"
    elif way.use == "proxy":
        head, rest = f"via {way.proxy}{_of_pool(way)}", _connection(way, port)
    elif way.use == "direct":
        head, rest = "direct", _connection(way, port)
    else:
        return None
    return OneLine(printable(head), printable(rest))


def _refusal(way: Way) -> str:
    egress = f"{way.proxy or ''}{_of_pool(way)}".strip()
    named = f" ({egress})" if egress else ""
    several = way.tried and "," in way.tried  # a single one is named already
    return f", {_rule(way)}{named}" + (f", tried {way.tried}" if several else "")


def _connection(way: Way, port: int | None) -> str:
    if way.address is None or not way.address:
        return f", {_rule(way)}, not connected{_cut(way)}"
    place = url_host(way.address) + (f":{port}" if port else "")
    reached = f"{place} {family_name(way.peer_family)}".rstrip()
    after = f", after {way.tried}" if way.tried else ""
    return f" {reached}, {_rule(way)}{_time(way)}{after}{_cut(way)}"


def _cut(way: Way) -> str:
    return f", cut: {_CUT.get(way.cut, way.cut)}" if way.cut else ""


def _of_pool(way: Way) -> str:
    return f" of {way.pool}" if way.pool else ""


def _rule(way: Way) -> str:
    rule = (way.rule or "?").removesuffix(_GLOBAL)
    return rule if rule in ("default", "global") else f"rule {rule}"


def _time(way: Way) -> str:
    if way.reused:
        return ", reused"
    if way.use != "proxy" or way.connect_ms is None:
        return ""
    took = way.connect_ms + (way.handshake_ms or 0.0)
    return f", {took:.0f} ms to the exit" if took >= 1 else ", < 1 ms to the exit"
