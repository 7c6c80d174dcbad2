"""Whether a proxy gives no answer, or our own network carries none. Pure.

Only what had no answer is doubtful: a refusal comes from the other side, so the network has carried
it. ``blame.py`` weighs what is doubtful. The proof that the network worked is an address that
accepted or refused a connection within a second. IPv4, IPv6, and private addresses of each are
different networks here: each may fail alone. Loopback is none, so what fails there is proven.

Where nothing answers there is no proof, but dead proxies must not be dialled for ever. Failures
count without a proof

- outside a pool, if no other address was tried for a while: nothing else could be a proof;
- in a pool with the same, once the fail-over would have answered or failed;
- otherwise once nothing has answered for half a minute.
"""

from collections import OrderedDict, defaultdict
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from ...sentence import Sentence
from ..hop import plain_address
from .blame import Blame, Proven
from .circuit import SPAN, Strike

QUICK: Final = 1.0
"""Seconds: an answer that takes less was an answer to the first packet."""
SUSPECTS: Final = 3
"""Addresses without an answer within ``TOGETHER`` that make the own network suspected."""
TOGETHER: Final = 5.0
PROTECTED: Final = 30.0
"""Seconds for which an own network that carries nothing excuses the proxies."""
FAIL_OVER: Final = 5.5
"""Seconds within which another address has answered or failed, if one is tried in its place."""
_REMEMBERED: Final = 4096


class OwnNetwork:
    """Judges attempts to connect that had no answer, by what other addresses do at that time."""

    def __init__(self) -> None:
        self._networks: defaultdict[str, _Network] = defaultdict(_Network)

    def answered(self, address: str, began: float, ended: float) -> Proven:
        """The address has accepted or refused a connection. Returns what that proves."""
        name, ip = _place(address)
        return self._networks[name].answered(ip, began, ended) if name else []

    def silent(self, address: str, began: float, ended: float) -> None:
        """The address of a proxy gave no answer."""
        name, ip = _place(address)
        if name:
            self._networks[name].silent(ip, began, ended)

    def convicts_address(self, key: str, address: str, strike: Strike, *, pooled: bool) -> bool:
        """Whether a connection to the proxy ``key`` that was not answered counts against it.

        If not, it may still be proven by a later answer. ``pooled``: others are tried in its place.
        """
        name, ip = _place(address)
        return not name or self._networks[name].convicts(key, ip, strike, pooled)

    def convicts_server(self, key: str, address: str, strike: Strike) -> bool:
        """Whether a handshake counts against the proxy ``key`` that got no answer on an open
        connection. The address itself may prove it, by accepting another connection."""
        name, ip = _place(address)
        return not name or self._networks[name].blame.failed(key, f"server at {ip}", strike)

    def suspicion(self, now: float) -> str:
        """Why the own network seems to be down, or nothing."""
        for name, network in self._networks.items():
            if count := network.unanswering(now):
                silent = "{network}: none of {count} addresses answers"
                return Sentence("network_silent", silent, network=name, count=count)
        return ""


class _Network:
    def __init__(self) -> None:
        self.blame = Blame()
        self._tried: OrderedDict[str, float] = OrderedDict()
        self._silent: dict[str, float] = {}  # since the last answer
        self._silent_since = self._silent_at = self._answered_at = float("-inf")
        self._suspected_since: float | None = None

    def answered(self, address: str, began: float, ended: float) -> Proven:
        self._try(address, ended)
        self._answered_at = max(self._answered_at, ended)
        if self._silent:
            self._silent.clear()
            self._suspected_since = None
        return self.blame.worked(address, began) if ended - began < QUICK else []

    def silent(self, address: str, began: float, ended: float) -> bool:
        """Take in that an address gave no answer. Returns whether no other has answered since."""
        self._try(address, ended)
        if began < self._answered_at:
            return False
        if ended - self._silent_at > SPAN:  # nobody has tried meanwhile
            self._silent.clear()
            self._suspected_since = None
        if not self._silent:
            self._silent_since = ended
        self._silent[address] = self._silent_at = ended
        if self._suspected_since is None:
            together = sum(ended - at <= TOGETHER for at in self._silent.values())
            if together >= max(2, min(SUSPECTS, self._lately_tried(ended))):
                self._suspected_since = ended
        return True

    def convicts(self, key: str, address: str, strike: Strike, pooled: bool) -> bool:
        unanswered = self.silent(address, strike.began, strike.ended)
        if self.blame.failed(key, address, strike):
            return True
        if not unanswered:
            return False
        since, patience = self._silent_since, PROTECTED
        if self._suspected_since is not None:
            since = self._suspected_since
        elif self._lately_tried(strike.ended) == 1:
            patience = FAIL_OVER if pooled else 0.0
        return strike.ended - since >= patience

    def unanswering(self, now: float) -> int:
        """How many addresses give no answer, 0 unless that makes the network suspected."""
        if self._suspected_since is None or now - self._silent_at > SPAN:
            return 0
        return len(self._silent)

    def _try(self, address: str, at: float) -> None:
        self._tried[address] = at
        self._tried.move_to_end(address)
        while len(self._tried) > _REMEMBERED:
            gone, _ = self._tried.popitem(last=False)
            self._silent.pop(gone, None)

    def _lately_tried(self, now: float) -> int:
        """How many addresses were tried lately, as far as that matters."""
        number = 0
        for at in reversed(self._tried.values()):
            if now - at > SPAN or number == SUSPECTS:
                break
            number += 1
        return number


@lru_cache(_REMEMBERED)
def _place(address: str) -> tuple[str, str]:
    """The name of the network that leads to an IP literal, and its plain form. The name is empty
    for this machine itself."""
    plain = plain_address(address)
    try:
        ip = ip_address(plain)
    except ValueError:  # the name of a host, which the system resolves
        return "network", plain
    if ip.is_loopback or ip.is_unspecified:
        return "", plain
    return f"IPv{ip.version}{'' if ip.is_global else ' (private)'}", plain
